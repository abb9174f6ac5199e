"""What is kept of a stream while it is read."""

from __future__ import annotations

import tracemalloc

import pytest

from jaas_submit.model.logs import LogGap, LogLine
from jaas_worker.swarm.head_tail import HeadTail, together


def kept(cap: int, *pieces: bytes) -> list[bytes | int]:
    """Return what is kept of a stream, with a number for what is missing."""
    one = HeadTail("stdout", cap)
    for number, data in enumerate(pieces):
        one.add(number, "t", data)
    return [piece.data if isinstance(piece, LogLine) else piece for _, piece in one.pieces()]


CUTS: list[tuple[list[bytes], int, list[bytes | int]]] = [
    ([], 10, []),
    ([b""], 10, []),
    ([b"aaaa\n", b"bbbb\n"], 10, [b"aaaa\n", b"bbbb\n"]),  # exactly the cap
    ([b"aaaa\n", b"bbbb\n", b"c\n"], 10, [b"aaaa\n", 2, b"bb\n", b"c\n"]),
    ([b"0123456789"], 10, [b"01234", b"56789"]),
    ([b"0123456789A"], 10, [b"01234", 1, b"6789A"]),
    ([b"a", b"0123456789"], 10, [b"a", b"0123", 1, b"56789"]),
    ([b"a", b"b", b"0123456789"], 5, [b"a", b"b", 7, b"789"]),  # an odd cap: the end has one more
    ([b"ab", b"cd"], 1, [3, b"d"]),
    ([b"ab"], 0, [2]),
    ([bytes(range(256))], 4, [b"\x00\x01", 252, b"\xfe\xff"]),
]


@pytest.mark.parametrize(("pieces", "cap", "expected"), CUTS)
def test_the_first_and_the_last_bytes_are_kept(pieces: list[bytes], cap: int, expected: list[bytes | int]) -> None:
    assert kept(cap, *pieces) == expected


def test_an_end_that_was_read_by_itself_leaves_a_gap() -> None:
    one, end = HeadTail("stdout", 8), HeadTail("stdout", 8, only_end=True)
    one.add(1, "t1", b"0123456")
    end.add(2, "t2", b"abcde")
    one.end_with(end)
    assert together([one]) == (
        (LogLine("t1", "stdout", b"0123"), LogLine("t2", "stdout", b"bcde")),
        (LogGap("stdout", 1, 4, exact=False),),
    )
    assert (one.total, one.full, one.exact) == (12, True, False)


def test_an_end_of_nothing_after_nothing_may_have_had_something_between() -> None:
    one = HeadTail("stderr", 8)
    one.end_with(HeadTail("stderr", 8, only_end=True))
    assert together([one]) == ((), (LogGap("stderr", 0, 0, exact=False),))
    assert not one.exact


def test_memory_is_bounded_by_the_cap_whatever_the_lines() -> None:
    cap = 2**16
    one = HeadTail("stdout", cap)
    tracemalloc.start()
    try:
        for number in range(2 * cap):
            one.add(number, "2026-11-23T12:00:00.000000001Z", b"\n")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    lines, gaps = together([one])
    assert b"".join(line.data for line in lines) == b"\n" * cap
    assert gaps[0].missing == cap
    assert used < 6 * 2**20
