"""Proxies that misbehave on request: between a worker and Redis, and between a worker and its engine.

All of them run on one event loop in one thread. A proxy forwards bytes and knows next to nothing of what they mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["EngineProxy", "ProxyLoop", "RedisProxy"]

T = TypeVar("T")

_CHUNK = 256 * 1024


class ProxyLoop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self._servers: list[asyncio.AbstractServer] = []

    def serve(self, server: Coroutine[Any, Any, asyncio.Server]) -> asyncio.Server:
        """Start a server, which ends with the loop."""
        started = self.run(server)
        self._servers.append(started)
        return started

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def call(self, what: Callable[[], None]) -> None:
        """Call a function on the loop's thread, and wait for it."""

        async def work() -> None:
            what()

        self.run(work())

    def close(self) -> None:
        """Stop the loop; connections end with it."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class _Pair:
    """A client's connection and the one that goes on to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.silent = False
        """Nothing is forwarded any more, in either direction, and neither side is told."""
        self.swallow = False
        """The next answer is not forwarded; the client's connection breaks when it arrives."""

    def abort(self) -> None:
        """Break both connections."""
        for writer in (self.client, self.server):
            writer.transport.abort()


class _Proxy:
    """What both kinds share."""

    def __init__(self, loop: ProxyLoop) -> None:
        self.loop = loop
        self._pairs: set[_Pair] = set()
        self._refuse = False

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise NotImplementedError

    def _from_client(self, pair: _Pair, data: bytes) -> None:
        """Look at what the client sends, before it is forwarded."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuse:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, server_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._upstream(pair, reader), self._downstream(pair, server_reader))
        finally:
            self._pairs.discard(pair)
            pair.abort()

    async def _upstream(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if pair.silent:
                    continue
                self._from_client(pair, data)
                pair.server.write(data)
                await pair.server.drain()
        if not pair.silent:  # a server behind a silent connection is not told that the client is gone
            with contextlib.suppress(OSError):
                pair.server.write_eof()

    async def _downstream(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if pair.silent:
                    continue
                if pair.swallow:
                    self._swallowed()
                    break
                pair.client.write(data)
                await pair.client.drain()
        if not pair.silent:
            pair.client.transport.abort() if pair.swallow else pair.client.close()

    def _swallowed(self) -> None:
        """An answer was dropped."""

    def refuse(self, yes: bool) -> None:
        """Break all connections and accept no new ones, or accept them again."""

        def act() -> None:
            self._refuse = yes
            if yes:
                for pair in list(self._pairs):
                    pair.abort()

        self.loop.call(act)


class RedisProxy(_Proxy):
    """Between one worker and Redis.

    Args:
        loop: runs it.
        target: port of the Redis on this machine.
        port: where it listens; 0 takes a free one.
    """

    def __init__(self, loop: ProxyLoop, target: int, port: int) -> None:
        super().__init__(loop)
        self._target = target
        self._server = loop.serve(asyncio.start_server(self._serve, "127.0.0.1", port))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """What the worker connects to."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._target)

    def silence(self) -> int:
        """Make all present connections half-open, for ever; new ones work. Return how many there were."""
        count = 0

        def act() -> None:
            nonlocal count
            for pair in self._pairs:
                count += not pair.silent
                pair.silent = True

        self.loop.call(act)
        return count


class EngineProxy(_Proxy):
    """Between one worker and its engine.

    Args:
        loop: runs it.
        target: the engine's socket.
        path: the socket that the worker is told.
    """

    def __init__(self, loop: ProxyLoop, target: Path, path: Path) -> None:
        super().__init__(loop)
        self.path = path
        self._target = target
        self._left = 0
        self.dropped = 0
        """Answers to service creations that were dropped so far."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._server = loop.serve(asyncio.start_unix_server(self._serve, path))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self._target)

    def _from_client(self, pair: _Pair, data: bytes) -> None:
        if self._left > 0 and data.startswith(b"POST ") and b"/services/create" in data.split(b"\r\n", 1)[0]:
            self._left -= 1
            pair.swallow = True

    def _swallowed(self) -> None:
        self.dropped += 1

    def drop_create_replies(self, count: int) -> None:
        """Drop the engine's answers to the next service creations, which it carries out nevertheless."""

        def act() -> None:
            self._left = count

        self.loop.call(act)
