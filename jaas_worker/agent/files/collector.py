"""Takes the files of an ended container, or its output, from the agent of its node, and writes them to the store."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple, Protocol, TypeVar

from jaas_submit.errors import JaasError, LedgerUnavailable, StoreUnavailable, TemporaryError
from jaas_submit.model.bounds import shown
from jaas_submit.model.files.listing import OutputFile, OutputFiles, stored_name
from jaas_submit.model.files.stored_logs import logs_name
from jaas_submit.model.logs import LogStatus
from jaas_submit.output import PIECE_BYTES, AgentLeases, FilePiece, FileRequest, FileTransfers
from jaas_submit.storage.store import Store
from jaas_worker.agent.files.selection import Selection
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["COLLECT_TIMING", "CollectTiming", "FileCollector"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_BROKEN: Final = 5
"""How often a transfer may break by the engine or the archive: a file that others write may never come whole."""

_LEAST_PAUSE_S: Final = 0.01
_MOST_PAUSE_S: Final = 0.2
"""Seconds until the next pieces are asked for where there are none; the pause doubles."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


class CollectTiming(NamedTuple):
    """How long a worker waits for what, in seconds."""

    silence: float = 3.0
    """Without a piece, until the agent is asked again: the notice may have been missed."""
    no_agent: float = 20.0
    """For which an agent may be missing: a new one takes the lease of one that died in 15."""
    pause: float = 1.0
    """Between a transfer that broke and the next."""


COLLECT_TIMING: Final = CollectTiming()


class _Broken(JaasError):
    """A transfer did not come to its end; another one may."""


class _NoAgent(_Broken):
    """There is nobody who could send."""


class _Invalid(JaasError):
    """The agent sent what was not asked for."""


class FileCollector:
    """Collects the files of ended containers. Threads may share it.

    Args:
        transfers: where the pieces come from.
        leases: of the agents.
        store: where the files go; None if there is none.
        timing: its pauses.
    """

    def __init__(
        self,
        transfers: FileTransfers,
        leases: AgentLeases,
        store: Store | None,
        timing: CollectTiming = COLLECT_TIMING,
    ) -> None:
        self._transfers = transfers
        self._leases = leases
        self._store = store
        self._timing = timing
        self._closed = threading.Event()

    def close(self) -> None:
        """End what is under way; another worker begins it anew."""
        self._closed.set()

    def collect(self, wanted: FileRequest, until: float, still_ours: Callable[[], bool]) -> OutputFiles | None:
        """Return which files there are, when they are in the store; None if another worker holds the job.

        A transfer that breaks begins anew.

        Args:
            wanted: what is wanted; each transfer gets a token of its own.
            until: when to give up, by the monotonic clock.
            still_ours: returns whether this worker holds the job; asked before each transfer.

        Raises:
            TemporaryError: the worker shuts down.
            LedgerUnavailable: Redis does not answer.
        """
        return self._repeated(wanted, until, still_ours, self._transfer, _unavailable)

    def collect_output(self, wanted: FileRequest, until: float, still_ours: Callable[[], bool]) -> str | None:
        """Store the beginning of what a container printed; return why that failed, or an empty text.

        Args:
            wanted: as for ``collect``, with ``output``.
            until: when to give up, by the monotonic clock.
            still_ours: as for ``collect``.

        Returns:
            None if another worker holds the job.

        Raises:
            TemporaryError: the worker shuts down.
            LedgerUnavailable: Redis does not answer.
        """
        return self._repeated(wanted, until, still_ours, self._transfer_output, str)

    def _repeated(
        self,
        wanted: FileRequest,
        until: float,
        still_ours: Callable[[], bool],
        transfer: Callable[[FileRequest, float, Store], T],
        failed: Callable[[str], T],
    ) -> T | None:
        if self._store is None:
            return failed("the worker has no store (JAAS_STORE_URL)")
        broken = 0
        while still_ours():
            try:
                found = transfer(replace(wanted, token=uuid.uuid4().hex), until, self._store)
            except _Invalid as error:
                found = failed(f"its node's agent sent what was not asked for: {error}")
            except _NoAgent as error:
                found = failed(str(error))
            except (_Broken, StoreUnavailable) as error:
                broken += 1
                why = shown(str(error), 300)
                if broken < _MOST_BROKEN and time.monotonic() < until:
                    logger.info("job %s: its files: %s", wanted.job_id, why, extra=action(Action.STEP_REPEATED))
                    self._pause(self._timing.pause)
                    continue
                found = failed(why)
            with contextlib.suppress(LedgerUnavailable):  # the transfer ends by itself when nobody asks for more
                self._transfers.drop(wanted.job_id, wanted.attempt)
            return found
        return None

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise TemporaryError("the worker shuts down while files are copied")

    def _transfer(self, request: FileRequest, until: float, store: Store) -> OutputFiles:
        pieces = self._pieces(request, until)
        selection = Selection(request.patterns, request.limit, request.most)
        files: list[OutputFile] = []
        for piece in pieces:
            if piece.end == "again":
                raise _Broken(piece.reason)
            if piece.end:
                return OutputFiles(
                    status=LogStatus(piece.end),
                    reason=piece.reason,
                    files=tuple(files),
                    stored_by=request.job_id,
                    stored_attempt=request.attempt,
                )
            name, size = piece.name, piece.size
            if name is None or size < 0 or not selection.takes(name, b"0", size):
                raise _Invalid(shown(name if name is not None else "contents of no file"))
            digest = hashlib.sha256()

            def contents(left: int = size, digest: _Digest = digest) -> Iterator[bytes]:
                while left:
                    following = next(pieces)
                    if following.end == "again":
                        raise _Broken(following.reason)
                    data = following.data
                    if not 0 < len(data) <= left:
                        raise _Invalid("a file that has not as many bytes as it was said to have")
                    digest.update(data)
                    left -= len(data)
                    yield data

            store.write(request.job_id, stored_name(request.attempt, len(files)), contents())
            files.append(OutputFile(name=name, size=size, sha256=digest.hexdigest()))
        raise AssertionError("a transfer ends with a piece that says so")

    def _transfer_output(self, request: FileRequest, until: float, store: Store) -> str:
        why: list[str] = []

        def contents() -> Iterator[bytes]:
            # Packed, it is hardly larger than it was: so much more is no output within the limit.
            left = 2 * request.limit + PIECE_BYTES
            for piece in self._pieces(request, until):
                if piece.end == "again":
                    raise _Broken(piece.reason)
                if piece.end:
                    why.append(piece.reason)
                    return
                left -= len(piece.data)
                if not piece.data or left < 0:
                    raise _Invalid("more than the output was to have")
                yield piece.data

        store.write(request.job_id, logs_name(request.attempt), contents())
        return "".join(why)

    def _pieces(self, request: FileRequest, until: float) -> Iterator[FilePiece]:
        """Yield the pieces of a transfer, each once; the last one says how it ended."""
        self._transfers.ask(request)
        stored, pause = 0, 0.0
        heard = agent_seen = time.monotonic()
        while True:
            try:
                found = self._transfers.receive(request, stored)
            except ValueError as error:
                raise _Invalid(str(error)) from None
            if found is None:
                raise _Broken("what had been sent of them was lost in Redis")
            for piece in found:
                if piece.number != stored:
                    raise _Broken("a piece of them is missing")
                yield piece
                if piece.end:
                    return
                stored += 1
            now = time.monotonic()
            pause = 0.0 if found else min(pause * 2, _MOST_PAUSE_S) or _LEAST_PAUSE_S
            if now >= until:
                raise _Broken("they did not come in time (JAAS_FILES_TIMEOUT)")
            if found:
                heard = now
            elif now - heard >= self._timing.silence:
                heard = now
                if self._leases.get(request.node_id):
                    agent_seen = now
                    self._transfers.ask(request)
                elif now - agent_seen >= self._timing.no_agent:
                    raise _NoAgent("no agent follows the containers of its node (`jaas agent`)")
            self._pause(pause)


def _unavailable(why: str) -> OutputFiles:
    return OutputFiles(status=LogStatus.UNAVAILABLE, reason=why)
