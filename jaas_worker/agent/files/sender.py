"""Sends files of an ended container, or what it printed, to the worker that asked for them."""

from __future__ import annotations

import asyncio
import logging
import tarfile
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Final, TypeVar

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable, LedgerUnavailable
from jaas_submit.model.bounds import shown
from jaas_submit.model.files.stored_logs import OutputPacker
from jaas_submit.model.logs import LogLine
from jaas_submit.output import PIECE_BYTES, FilePiece, FileRequest, FileTransfers
from jaas_worker.agent.files.archive import ArchiveBroken, ArchiveTooLarge, entries, on_loop
from jaas_worker.agent.files.selection import Selection, folders
from jaas_worker.agent.kept_output.tally import Message
from jaas_worker.agent.log_reader import LogReader
from jaas_worker.agent.node_engine import NodeEngine
from jaas_worker.swarm.engine import ContainerRef
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["FileSender"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FULL_S: Final = 0.01
"""Seconds until a piece is offered again that has to wait for its worker."""

_AWAY_S: Final = 0.5
"""Seconds until a piece is offered again while Redis does not answer."""

_ASKED_S: Final = 5.0
"""Seconds between two questions whether the worker still wants anything, while nothing is sent."""

_THREADS: Final = 2
"""Transfers of one agent at the same time."""

_MOST_QUEUED: Final = 1000
"""Transfers that an agent keeps in mind; workers ask again for others."""

_MOST_DIGITS: Final = 9

_READ_FACTOR: Final = 4
"""Of a folder so many times the bytes are read that a job may hand out: it may hold others, too."""

_READ_MORE_BYTES: Final = 256 * 1024 * 1024
"""And so many more: many small files cost more in an archive."""


class _Unwanted(Exception):
    """The worker does not want any more, or this process ends."""


class _Enough(Exception):
    """As much was read as is wanted."""


class FileSender:
    """All transfers of one agent.

    Args:
        engine: the node's.
        transfers: where the pieces go.
    """

    def __init__(self, engine: NodeEngine, transfers: FileTransfers) -> None:
        self._engine = engine
        self._transfers = transfers
        self._node = self._label = ""
        self._start: Callable[[Coroutine[Any, Any, None]], object]
        self._threads: ThreadPoolExecutor
        self._stopped: threading.Event
        self._running: dict[tuple[str, int], object] = {}

    def begin(self, node_id: str, label: str, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Answer requests for files of a node from now on.

        Args:
            node_id: the swarm's id of the node.
            label: of the installation's containers (``key=value``).
            start: starts a task.
        """
        self._node, self._label, self._start, self._stopped = node_id, label, start, threading.Event()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="jaas-agent-files")
        self._running.clear()

    def end(self) -> None:
        """End all transfers soon: another process may begin them anew."""
        if self._node:
            self._node = ""
            self._stopped.set()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def heard(self, notice: str) -> None:
        """Take note that a worker asks for files; call it on the loop.

        Args:
            notice: what was published; others' are ignored.
        """
        _, job_id, attempt, node = [*notice.split(" "), "", "", ""][:4]
        if not node or node != self._node or not attempt.isdecimal() or len(attempt) > _MOST_DIGITS:
            return
        key = (job_id, int(attempt))
        if key not in self._running and len(self._running) < _MOST_QUEUED:
            self._running[key] = self._start(self._send(*key, self._stopped))

    async def _send(self, job_id: str, attempt: int, stopped: threading.Event) -> None:
        """Send what a worker asks for now, until it asks for nothing else."""
        loop, done = asyncio.get_running_loop(), ""
        try:
            while not stopped.is_set():
                request = await loop.run_in_executor(self._threads, self._transfers.asked, job_id, attempt)
                if request is None or request.token == done or request.node_id != self._node:
                    return
                if request.what == "output":
                    await self._send_output(request, loop, stopped)
                else:
                    await loop.run_in_executor(self._threads, self._run, request, loop, stopped)
                done = request.token
        except LedgerUnavailable:  # the worker asks again
            pass
        finally:
            if stopped is self._stopped:
                self._running.pop((job_id, attempt), None)

    def _run(self, request: FileRequest, loop: asyncio.AbstractEventLoop, stopped: threading.Event) -> None:
        sending = _Sending(request, self._transfers, stopped)
        try:
            end, reason = self._all(request, sending, loop)
        except (EngineUnavailable, ArchiveBroken, tarfile.TarError) as error:
            end, reason = "again", str(error)
        except (EngineRefused, ValueError) as error:
            end, reason = "unavailable", str(error)
        except _Unwanted:
            return
        except Exception as error:  # the others are sent all the same
            logger.exception("job %s: its files cannot be read", request.job_id, extra=action(Action.STEP_FAILED))
            end, reason = "unavailable", f"internal error: {type(error).__name__}"
        try:
            sending.end(end, reason)
        except _Unwanted:
            return

    async def _send_output(
        self, request: FileRequest, loop: asyncio.AbstractEventLoop, stopped: threading.Event
    ) -> None:
        """Send the beginning of what a container printed; it is read only as fast as it is stored."""
        sending = _Sending(request, self._transfers, stopped)
        packer, buffer = OutputPacker(request.limit), bytearray()

        async def push(least: int) -> None:
            while len(buffer) > least:
                piece = bytes(buffer[:PIECE_BYTES])
                del buffer[:PIECE_BYTES]
                await loop.run_in_executor(self._threads, sending.data, piece)

        async def take(found: list[Message]) -> None:
            for stream, at, data in found:
                buffer.extend(packer.add(LogLine(at.decode("ascii", "replace"), stream, data)))
            await push(PIECE_BYTES)
            if packer.full:
                raise _Enough

        end, reason = "complete", ""
        try:
            try:
                scrub = (await self._check_owner(request)).scrubbed
                await LogReader(self._engine, request.container_id, take, 0, scrub=scrub).catch_up()
            except _Enough:
                pass
            except EngineUnavailable as error:
                end, reason = "again", str(error)
            except EngineRefused as error:
                end, reason = "unavailable", str(error)
            if end == "complete":
                buffer.extend(packer.end())
                await push(0)
            await loop.run_in_executor(self._threads, sending.end, end, reason)
        except _Unwanted:
            pass

    def _all(self, request: FileRequest, sending: _Sending, loop: asyncio.AbstractEventLoop) -> tuple[str, str]:
        on_loop(self._check_owner(request), loop, sending.check)
        selection = Selection(request.patterns, request.limit, request.most)
        cut = ""
        for folder in folders(request.patterns):
            most = _READ_FACTOR * request.limit + _READ_MORE_BYTES
            pieces = self._engine.archive(request.container_id, folder)
            try:
                for name, entry, contents in entries(pieces, loop, folder, most, sending.check):
                    if selection.takes(name, entry.type, entry.size) and contents is not None:
                        sending.file(name, entry.size, contents)
            except EngineNotFound:
                # The container is not there, or the folder is not in it.
                on_loop(self._engine.inspect(request.container_id), loop, sending.check)
            except ArchiveTooLarge:
                cut = f"{folder} holds more than {most:,} bytes; the rest was not looked at"
        reason = "; ".join(filter(None, (selection.reason, cut)))
        return ("partial" if reason else "complete"), reason

    async def _check_owner(self, request: FileRequest) -> ContainerRef:
        """Return the container; refuse one that is not of this job: whoever may write to Redis can name any.

        Raises:
            EngineNotFound: by the engine's labels there is no such container of this job and attempt.
        """
        wanted = (request.container_id, request.job_id, request.attempt)
        for one in await self._engine.containers(self._label):
            if (one.id, one.job_id, one.attempt) == wanted:
                return one
        raise EngineNotFound(f"No such container: {shown(request.container_id, 64)}")


class _Sending:
    """One transfer, on a thread."""

    def __init__(self, request: FileRequest, transfers: FileTransfers, stopped: threading.Event) -> None:
        self._request = request
        self._transfers = transfers
        self._stopped = stopped
        self._number = 0
        self._asked_at = time.monotonic()

    def file(self, name: str, size: int, contents: IO[bytes]) -> None:
        self._send(FilePiece(self._number, name=name, size=size))
        left = size
        while left:
            data = contents.read(min(PIECE_BYTES, left))
            if not data:
                raise ArchiveBroken("a file ended early")
            left -= len(data)
            self.data(data)

    def data(self, data: bytes) -> None:
        self._send(FilePiece(self._number, data))

    def end(self, how: str, reason: str) -> None:
        self._send(FilePiece(self._number, end=how, reason=reason))  # type: ignore[arg-type] # one of its words

    def check(self) -> None:
        """End a transfer that nobody wants: a large folder may be read for long before anything is sent."""
        if self._stopped.is_set():
            raise _Unwanted
        if time.monotonic() - self._asked_at < _ASKED_S:
            return
        self._asked_at = time.monotonic()
        request = self._request
        asked = self._until_answered(lambda: self._transfers.asked(request.job_id, request.attempt))
        if asked is None or asked.token != request.token:
            raise _Unwanted

    def _send(self, piece: FilePiece) -> None:
        while True:
            answer = self._until_answered(lambda: self._transfers.send(self._request, piece))
            if answer is None:
                raise _Unwanted
            self._asked_at = time.monotonic()
            if answer:
                self._number += 1
                return
            if self._stopped.wait(_FULL_S):
                raise _Unwanted

    def _until_answered(self, ask: Callable[[], T]) -> T:
        while True:
            try:
                return ask()
            except LedgerUnavailable:
                if self._stopped.wait(_AWAY_S):
                    raise _Unwanted from None
