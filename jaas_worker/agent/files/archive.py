"""Reads a container's archive as it comes from the engine: entry by entry, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import tarfile
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import IO, Any, Final, TypeVar

__all__ = ["ArchiveBroken", "ArchiveTooLarge", "entries", "on_loop"]

T = TypeVar("T")

_READ_BYTES: Final = 256 * 1024

_CHECK_S: Final = 0.5
"""Seconds between two checks while an engine is silent."""


class ArchiveBroken(Exception):
    """An archive did not come whole, or is not valid."""


class ArchiveTooLarge(Exception):
    """More was read than is allowed."""


def on_loop(call: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, check: Callable[[], None]) -> T:
    """Return what a coroutine returns, from another thread than the loop's.

    Args:
        call: the coroutine.
        loop: on which it runs.
        check: is called before, and again and again while it runs; it raises to end it.
    """
    try:
        check()
    except BaseException:
        call.close()
        raise
    running = asyncio.run_coroutine_threadsafe(call, loop)
    while not running.done():
        try:
            return running.result(_CHECK_S)
        except TimeoutError:
            if running.done():  # the error is the coroutine's
                break
            try:
                check()
            except BaseException:
                running.cancel()
                raise
    return running.result()


class _Stream:
    """What ``tarfile`` reads from, on a thread; the engine is read on the loop, and only as fast as this is.

    Args:
        pieces: the engine's answer.
        loop: on which it is read.
        most: bytes that may be read.
        check: is called before each reading; it raises to end it.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], loop: asyncio.AbstractEventLoop, most: int, check: Callable[[], None]
    ) -> None:
        self._pieces = pieces
        self._loop = loop
        self._left = most
        self._check = check
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts, length = [self._rest], len(self._rest)
        while length < size and (piece := self._next()):
            parts.append(piece)
            length += len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def _next(self) -> bytes:
        piece = on_loop(self._read(), self._loop, self._check)
        self._left -= len(piece)
        if self._left < 0:
            raise ArchiveTooLarge
        return piece

    async def _read(self) -> bytes:
        return await anext(self._pieces, b"")

    def close(self) -> None:
        """Have the engine's answer closed on the loop; if that has ended, so has the connection."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(_closed(self._pieces)))


async def _closed(pieces: AsyncGenerator[bytes, None]) -> None:
    await pieces.aclose()


def entries(
    pieces: AsyncGenerator[bytes, None],
    loop: asyncio.AbstractEventLoop,
    folder: str,
    most: int,
    check: Callable[[], None],
) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes] | None]]:
    """Yield the path of each entry of an archive (without the first slash), the entry, and its contents.

    Args:
        pieces: the engine's answer: a tar archive, in which names begin with the last part of the folder's.
        loop: on which the answer is read; this runs on another thread.
        folder: whose archive it is, as a path in the container.
        most: bytes of the archive that may be read.
        check: is called again and again; it raises to end the reading.

    Raises:
        ArchiveBroken: it did not come whole, or is not valid.
        ArchiveTooLarge: it has more bytes.
    """
    above = posixpath.dirname(folder).strip("/")
    stream: Any = _Stream(pieces, loop, most, check)
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_READ_BYTES, encoding="utf-8") as archive:
            while (entry := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # typeshed lacks it; each entry would be kept
                name = posixpath.join(above, entry.name.strip("/")) if above else entry.name.strip("/")
                yield name, entry, archive.extractfile(entry) if entry.isreg() else None
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise ArchiveBroken(str(error) or type(error).__name__) from error
    finally:
        stream.close()
