"""How long an address waits that has given wrong passwords."""

from __future__ import annotations

import pytest

from jaas_submit.dashboard.wrong_passwords import (
    FORGET_AFTER_S,
    FREE_TRIES,
    MAX_ADDRESSES,
    MAX_PAUSE_S,
    WrongPasswords,
    pause_s,
)


@pytest.mark.parametrize(
    ("number", "pause"), [(1, 0), (4, 0), (5, 1), (6, 2), (7, 4), (14, 512), (15, 900), (16, 900), (10**9, 900)]
)
def test_the_pause_doubles_up_to_its_limit(number: int, pause: int) -> None:
    assert pause_s(number) == pause


def tried(address: str, times: int, now: float = 0.0) -> WrongPasswords:
    tries = WrongPasswords()
    for _ in range(times):
        tries.note(address, now)
    return tries


@pytest.mark.parametrize(("now", "wait"), [(0.0, 2), (0.5, 2), (1.0, 1), (1.9, 1), (2.0, 0), (9.0, 0)])
def test_the_rest_of_a_pause_is_rounded_up(now: float, wait: int) -> None:
    assert tried("192.0.2.1", FREE_TRIES + 1).wait_s("192.0.2.1", now) == wait


@pytest.mark.parametrize(
    ("tries", "asks", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("/run/socket", "/run/socket", True),
    ],
)
def test_who_waits(tries: str, asks: str, same: bool) -> None:
    assert (tried(tries, FREE_TRIES).wait_s(asks, 0) > 0) is same


def test_an_address_begins_anew_after_an_hour() -> None:
    tries = tried("192.0.2.1", 20)
    assert tries.note("192.0.2.1", FORGET_AFTER_S) == MAX_PAUSE_S
    assert tries.note("192.0.2.1", 2 * FORGET_AFTER_S + 1) == 0


def test_addresses_are_bounded_and_the_oldest_is_forgotten() -> None:
    tries = tried("192.0.2.1", 20)
    for number in range(MAX_ADDRESSES - 1):
        tries.note(f"host {number}", 1)
    assert (len(tries), tries.wait_s("192.0.2.1", 1) > 0) == (MAX_ADDRESSES, True)
    tries.note("one more", 1)
    assert (len(tries), tries.wait_s("192.0.2.1", 1)) == (MAX_ADDRESSES, 0)
    tries.note("later", 2 + FORGET_AFTER_S)
    assert len(tries) == 1
