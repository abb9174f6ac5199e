"""A subscription's connection: kept for the next one, if that is safe."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import redis

from jaas_submit.connection import Subscription, connect
from jaas_submit.errors import LedgerUnavailable
from tests.support.redis_server import OwnRedis

pytestmark = pytest.mark.redis


@pytest.fixture
def client(own_redis: Callable[..., OwnRedis]) -> redis.Redis:
    """A connection to a server that nobody else uses."""
    return connect(own_redis().url)


def accepted(client: redis.Redis) -> int:
    """Return how many connections the server has accepted."""
    found = client.info("stats")
    return int(found["total_connections_received"])


def test_the_next_subscription_has_the_connection_of_the_last(client: redis.Redis) -> None:
    with Subscription(client, "1") as first:
        client.publish("1", "to the first")
        assert first.next(5) == "to the first"
    before = accepted(client)
    assert client.pubsub_numsub("1") == [(b"1", 0)]
    with Subscription(client, "2", "3") as second:
        client.publish("1", "to the first")
        client.publish("3", "to the second")
        assert second.next(5) == "to the second"
    assert accepted(client) == before


def test_messages_that_nobody_has_read_are_not_the_next_subscriptions(client: redis.Redis) -> None:
    with Subscription(client, "1"):
        for number in range(100):
            client.publish("1", str(number))
    with Subscription(client, "2") as second:
        client.publish("2", "mine")
        assert second.next(5) == "mine"


def test_two_at_the_same_time_have_two_connections_and_one_is_kept(client: redis.Redis) -> None:
    with Subscription(client, "1") as first, Subscription(client, "2") as second:
        client.publish("1", "one")
        client.publish("2", "two")
        assert (first.next(5), second.next(5)) == ("one", "two")
    assert len(client.client_list()) == 2


def test_a_connection_that_redis_has_closed_is_replaced(client: redis.Redis) -> None:
    with Subscription(client, "1"):
        pass
    assert client.client_kill_filter(_type="normal", skipme=True) == 1
    with Subscription(client, "2") as second:
        client.publish("2", "after it")
        assert second.next(5) == "after it"


def test_none_is_kept_where_redis_has_gone(own_redis: Callable[..., OwnRedis]) -> None:
    server = own_redis()
    fresh = accepted(connect(server.url))
    lost = connect(server.url, retry=None, retry_on_error=[])
    with Subscription(lost, "1") as first:
        server.kill()
        with pytest.raises(LedgerUnavailable):
            first.next(5)
    server.start()
    assert accepted(connect(server.url)) == fresh, "nobody has connected to say goodbye"


def test_after_an_error_and_after_a_fork_it_is_a_new_one(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt), Subscription(client, "1"):
        raise KeyboardInterrupt
    assert len(client.client_list()) == 1
    with Subscription(client, "1"):
        pass
    before = accepted(client)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with Subscription(client, "2") as second:
        client.publish("2", "in the child")
        assert second.next(5) == "in the child"
    assert accepted(client) > before
