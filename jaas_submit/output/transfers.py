"""Transfers: files of ended containers on their way from the agent of their node to the worker that stores them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple

from jaas_submit.connection.connection import redis_errors
from jaas_submit.model.bounds import read_json, shown
from jaas_submit.output.budget import Budgeted

__all__ = ["PIECE_BYTES", "FilePiece", "FileRequest", "FileTransfers"]

PIECE_BYTES: Final = 256 * 1024
"""Bytes of a file in one piece, at most."""

WINDOW_BYTES: Final = 2 * 1024 * 1024
"""Bytes of one transfer that wait in Redis for their worker, at most."""

_HEAD_BYTES: Final = 16 * 1024
"""Bytes of what is said of a piece, at most."""

_KEEP_S: Final = 60
"""Seconds until a transfer ends whose worker asks for nothing more."""


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What a worker asks the agent of a node for.

    Args:
        job_id: the job's id.
        attempt: which attempt.
        token: names this transfer; the worker begins another one where this one breaks.
        node_id: the swarm's id of the node.
        container_id: the ended container.
        patterns: of the files' paths (``Pattern``).
        limit: bytes of all files together, at most.
        most: how many files, at most.
        what: ``files``, or ``output``: the beginning of what the container printed, packed, within the limit.
    """

    job_id: str
    attempt: int
    token: str
    node_id: str
    container_id: str
    patterns: tuple[str, ...]
    limit: int
    most: int
    what: str = "files"


class FilePiece(NamedTuple):
    """The next piece of a transfer."""

    number: int
    """Of this piece, from 0."""
    data: bytes = b""
    """Contents of the file that was begun last, or of the packed output; empty where this piece begins a file, or ends
    the transfer."""
    name: str | None = None
    """Begins a file."""
    size: int = 0
    """Bytes of that file."""
    end: Literal["", "complete", "partial", "unavailable", "again"] = ""
    """Ends the transfer, and says what it had. ``again``: it broke, and another one may succeed."""
    reason: str = ""
    """Why it was not complete, for people."""


class FileTransfers(Budgeted):
    """All transfers of files. Every method raises LedgerUnavailable when Redis cannot be reached or refuses.

    A transfer has one worker, which asks, and one agent, which sends. Pieces wait in Redis until the worker says that
    it has stored them; beyond ``WINDOW_BYTES`` the agent waits. All of them count as output, within its budget.
    """

    @property
    def request_channel(self) -> str:
        """Name of the channel on which ``files JOB ATTEMPT NODE`` is published when an agent is asked."""
        return self.channel("files")

    # -- for workers --------------------------------------------------------------------------------------------------

    def ask(self, request: FileRequest) -> None:
        """Ask the agent of a node for files, in place of any earlier request for them; or ask it again.

        Args:
            request: what is asked for.
        """
        named: dict[str, Any] = {"job": request.job_id, "attempt": request.attempt, "token": request.token}
        text = json.dumps(asdict(request)).encode()
        self.run("request_files", "files", text, node=request.node_id, keep=_KEEP_S, **named)

    def receive(self, request: FileRequest, stored: int, most: int = 1024 * 1024) -> list[FilePiece] | None:
        """Return the next pieces, and delete those before them; None when the transfer has ended: ask anew.

        Args:
            request: what was asked for.
            stored: how many pieces have been stored.
            most: bytes of pieces that are returned, if there is more than one.

        Raises:
            ValueError: what was sent is not valid.
        """
        named: dict[str, Any] = {"job": request.job_id, "attempt": request.attempt, "token": request.token}
        largest = PIECE_BYTES + _HEAD_BYTES
        found = self.run("receive_files", "files", stored=stored, most=most, largest=largest, keep=_KEEP_S, **named)
        if found is None:
            return None
        if not isinstance(found, list):
            raise ValueError(f"a piece has more than the {largest:,} bytes allowed")
        return [_piece(data) for data in found]

    def drop(self, job_id: str, attempt: int) -> None:
        """End the transfer of an attempt's files, whoever asked for it.

        Args:
            job_id: the job's id.
            attempt: which attempt.
        """
        with redis_errors("files"):
            pipe = self.client.pipeline(transaction=False)
            pipe.unlink(self.key("files", job_id, attempt), self.key("files", job_id, attempt, "pieces"))
            pipe.zrem(self.key("output", "files"), f"{job_id}:{attempt}")
            pipe.execute()

    # -- for agents ---------------------------------------------------------------------------------------------------

    def asked(self, job_id: str, attempt: int) -> FileRequest | None:
        """Return what a worker asks for now; None if it asks for nothing, or nothing that can be read.

        Args:
            job_id: the job's id.
            attempt: which attempt.
        """
        with redis_errors("files"):
            text: Any = self.client.hget(self.key("files", job_id, attempt), "request")
        try:
            data = read_json(text or b"")
            data["patterns"] = tuple(map(str, data["patterns"]))
            return FileRequest(**{name: data[name] for name in FileRequest.__dataclass_fields__ if name in data})
        except (ValueError, KeyError, TypeError):
            return None

    def send(self, request: FileRequest, piece: FilePiece) -> bool | None:
        """Send the next piece. A piece that was sent already is ignored.

        Args:
            request: what was asked for.
            piece: its number is one more than that of the last one.

        Returns:
            False when it has to wait: the worker has not stored those before it, or there is no room for it. None when
            the worker does not want any more.
        """
        head = {name: value for name, value in piece._asdict().items() if name != "data" and value not in {None, ""}}
        named: dict[str, Any] = {"job": request.job_id, "attempt": request.attempt, "token": request.token}
        text = json.dumps(head).encode() + b"\n" + piece.data
        answer = self.run("send_files", "files", text, n=piece.number, window=WINDOW_BYTES, **named, **self._budget)
        return None if answer < 0 else bool(answer)


def _piece(text: bytes) -> FilePiece:
    head, _, data = text.partition(b"\n")
    said = read_json(head, _HEAD_BYTES)
    if not isinstance(said, dict) or not all(type(said.get(key, 0)) is int for key in ("number", "size")):
        raise ValueError("a piece is not valid")
    name, end, reason = said.get("name"), said.get("end", ""), said.get("reason", "")
    if not (name is None or isinstance(name, str)) or not isinstance(reason, str):
        raise ValueError("a piece is not valid")
    if end not in {"", "complete", "partial", "unavailable", "again"}:
        raise ValueError(f"a transfer ended as {shown(end)}, which this version does not know")
    return FilePiece(int(said.get("number", -1)), data, name, int(said.get("size", 0)), end, shown(reason, 500))
