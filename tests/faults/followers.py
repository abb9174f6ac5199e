"""Readers that follow the output of some jobs while everything fails, and write down what they were given."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

from jaas_submit import Client
from jaas_submit.client.live_output.findings import AttemptBegins, AttemptEnds, Missing, NotLive
from jaas_submit.errors import JaasError
from jaas_submit.model.logs import STREAMS, Stream
from jaas_submit.output import Piece
from tests.faults.history import History

__all__ = ["Followers"]

_MOST = 6
"""Jobs that are followed at the same time: reading takes the processor that the containers need."""


class _Digested:
    """One stream as a reader got it: stretches of bytes, and marks of what is missing between them."""

    def __init__(self) -> None:
        self.parts: list[list[Any]] = []
        self._digest = hashlib.sha256()
        self._end = -1

    def take(self, piece: Piece) -> None:
        if piece.offset != self._end:
            self._close()
            self.parts.append(["bytes", piece.offset, 0, ""])
        self._digest.update(piece.data)
        self._end = piece.offset + len(piece.data)
        self.parts[-1][2] += len(piece.data)

    def miss(self, missing: Missing) -> None:
        self._close()
        self.parts.append(["gap", missing.missing, missing.reason])

    def _close(self) -> None:
        if self._end >= 0:
            self.parts[-1][3] = self._digest.hexdigest()
        self._digest, self._end = hashlib.sha256(), -1

    def closed(self) -> list[list[Any]]:
        self._close()
        return self.parts


class _Reader:
    """Follows one job."""

    def __init__(self, n: int, job_id: str) -> None:
        self.n = n
        self.job_id = job_id
        self.attempts: list[dict[str, Any]] = []
        self.error = ""
        self.done = False
        self._begin(None)

    def _begin(self, number: int | None) -> None:
        self._number = number
        self._streams: dict[Stream, _Digested] = {stream: _Digested() for stream in STREAMS}

    def run(self, client: Client) -> None:
        try:
            for found in client.handle(self.job_id).logs(follow=True):
                match found:
                    case AttemptBegins():
                        self._rest()
                        self._begin(found.attempt)
                    case AttemptEnds():
                        self._number = found.attempt
                        self._keep(found.status, found.reason)
                    case Missing():
                        self._streams[found.stream].miss(found)
                    case NotLive():
                        pass
                    case Piece():
                        self._streams[found.stream].take(found)
        except JaasError as error:
            self.error = f"{type(error).__name__}: {error}"[:300]
        self._rest()
        self.done = True

    def _rest(self) -> None:
        """Keep what has come of an attempt whose end was not told."""
        if any(stream.parts for stream in self._streams.values()):
            self._keep("", "")

    def _keep(self, status: str, reason: str) -> None:
        told: dict[str, Any] = {"number": self._number, "status": status, "reason": reason}
        told.update({stream: digested.closed() for stream, digested in self._streams.items()})
        self.attempts.append(told)
        self._begin(None)


class Followers:
    """Follows jobs, each on a thread of its own, up to their ends.

    Args:
        client: is asked.
        history: is told in the end.
    """

    def __init__(self, client: Client, history: History) -> None:
        self._client = client
        self._history = history
        self._readers: list[tuple[_Reader, threading.Thread]] = []

    def follow(self, n: int, job_id: str) -> None:
        """Begin to follow a job, unless many are followed.

        Args:
            n: its order's number.
            job_id: the job's id.
        """
        if sum(thread.is_alive() for _, thread in self._readers) >= _MOST:
            return
        reader = _Reader(n, job_id)
        thread = threading.Thread(target=reader.run, args=(self._client,), name=f"follow-{n}", daemon=True)
        self._readers.append((reader, thread))
        thread.start()

    def collect(self, patience: float) -> None:
        """Write down what each reader got.

        Args:
            patience: seconds to wait in all for those that have not come to an end.
        """
        until = time.monotonic() + patience
        for reader, thread in self._readers:
            thread.join(max(until - time.monotonic(), 0))
            told: dict[str, Any] = {"n": reader.n, "id": reader.job_id, "error": reader.error, "done": reader.done}
            self._history.add("followed", **told, attempts=reader.attempts if reader.done else [])
