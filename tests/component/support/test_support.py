"""The helpers that the other tests stand on."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import redis

from jaas_submit.ledger import Ledger
from tests.support.real import required_env
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually


def test_eventually_returns_the_first_true_value() -> None:
    counter = itertools.count()
    assert eventually(lambda: next(counter) >= 3 and "there", 5) == "there"


def test_eventually_says_what_it_waited_for_and_what_it_saw() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: the moon; it was \[\]"):
        eventually(list, 0, "the moon")


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_something_real_that_is_missing_fails_in_ci_and_skips_elsewhere(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("JAAS_REQUIRE_REAL", required)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    with pytest.raises(outcome, match="DOCKER_HOST is not set; `scripts/test` sets everything up"):
        required_env("DOCKER_HOST")


def test_an_own_redis_keeps_its_data_when_it_is_killed(own_redis: Callable[..., OwnRedis]) -> None:
    server = own_redis(appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.get("kept") == b"yes"


def test_two_ledgers_of_different_prefix_do_not_see_each_other(ledger: Ledger, prefix: str) -> None:
    other = Ledger(ledger.client, f"{prefix}-other")
    ledger.submission.create("a", None, "q")
    assert ledger.queries.ids() == ["a"]
    assert other.queries.ids() == []
