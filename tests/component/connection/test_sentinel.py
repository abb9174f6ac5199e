"""Connections to the master that Sentinel names, with whichever redis-py is installed; Sentinel itself is played."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import redis

from jaas_submit.connection import connect
from jaas_submit.connection.connection import connect_async
from jaas_submit.connection.sentinel import AsyncFinder, Finder

URL = "sentinel://127.0.0.1:1/0?master=main"


class Sentinel:
    """Names the real Redis as the master, and counts who asks."""

    def __init__(self, url: str) -> None:
        options = redis.ConnectionPool.from_url(url).connection_kwargs
        self.master = (options["host"], options["port"])
        self.asked = 0

    def discover_master(self, _service_name: str) -> tuple[str, int]:
        self.asked += 1
        return self.master

    async def discover_master_async(self, _service_name: str) -> tuple[str, int]:
        return self.discover_master(_service_name)


@pytest.fixture
def sentinel(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Sentinel:
    played = Sentinel(redis_url)
    monkeypatch.setattr(Finder, "discover_master", lambda _self, name: played.discover_master(name))
    monkeypatch.setattr(AsyncFinder, "discover_master", lambda _self, name: played.discover_master_async(name))
    return played


def test_a_command_that_is_repeated_asks_again_who_the_master_is(sentinel: Sentinel, redis_url: str) -> None:
    """After a lost connection the former master may be a replica: writes to it would be lost."""
    # On a connection of its own: a pool finds out by itself that one is closed, and asks.
    url: Any = connect(URL)
    with url.client() as client, connect(redis_url) as other:
        number: Any = client.client_id()
        before = sentinel.asked
        other.client_kill_filter(_id=number)
        assert client.ping()
        assert sentinel.asked > before


def test_so_does_one_for_asyncio(sentinel: Sentinel, redis_url: str) -> None:
    async def look() -> None:
        async with connect_async(URL) as pooled, pooled.client() as client:
            number: Any = await client.client_id()
            before = sentinel.asked
            with connect(redis_url) as other:
                other.client_kill_filter(_id=number)
            with contextlib.suppress(redis.ConnectionError):  # redis-py 5 repeats nothing unless it is told to
                await client.ping()
            assert await client.ping()
            assert sentinel.asked > before

    asyncio.run(look())
