"""The ledger's part of files that producers send with jobs: where each content is, and who needs it.

A content is kept once, by its digest, whoever sends it: small ones here, larger ones in a store. Jobs and batches that
have it are its users. It is forgotten when none of them has a record any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from jaas_submit.connection.connection import as_text, redis_errors
from jaas_submit.ledger.base import Part

__all__ = ["SentFile", "SentFiles"]

_HERE: Final = "-"

_KEEP_S: Final = 86400.0
"""Seconds that a producer has to send its files, and then to write the records of its jobs."""

_PAUSE_S: Final = 600.0
"""Seconds between two looks at whether a file is needed."""


class SentFile(NamedTuple):
    """Where the content of a file is."""

    data: bytes | None = None
    """The content, if the ledger itself has it."""
    stored: str = ""
    """Its name in the store, if it is there."""


class SentFiles(Part):
    """All files that were sent, by the digests of their contents (SHA-256, in hexadecimal digits)."""

    def use(self, users: Sequence[str], digests: Sequence[str]) -> list[str | None]:
        """Register who needs some files; return where the content of each is.

        Args:
            users: ids of jobs, and ``batch:ID`` for a batch; their records may be written within a day.
            digests: the files'.

        Returns:
            Its name in the store, "" for a content that is here, and None for one that has to be sent.
        """
        found = self._base.run("sent_files/use", "files", users=list(users), digests=list(digests))
        return [None if not place else as_text(place).removeprefix(_HERE) for place in found]

    def put(self, digest: str, data: bytes) -> None:
        """Keep a content here, unless another producer has put it into the store since ``use`` was asked.

        Args:
            digest: of the content; somebody has to be registered who needs it.
            data: the content.
        """
        self._base.run("sent_files/put", "files", data, digest=digest)

    def begin(self, name: str) -> None:
        """Record that a file is about to be written to the store; if that is not ended within a day, it is removed.

        Args:
            name: in the store.
        """
        with redis_errors("files"):
            self._client.zadd(self._key("sent_left"), {name: self._base.now() + _KEEP_S})

    def end(self, digest: str, name: str) -> bool:
        """Record that a file is in the store. A content that was here is deleted.

        Args:
            digest: of its content.
            name: in the store.

        Returns:
            False if that took more than a day, so that it is being removed.
        """
        return bool(self._base.run("sent_files/stored", "files", digest=digest, name=name))

    def find(self, digest: str) -> SentFile | None:
        """Return where a content is; None if it is nowhere.

        Args:
            digest: of the content.
        """
        with redis_errors("files"):
            found: list[Any] = self._client.hmget(self._key("sent", digest), "place", "data")
        place, data = found
        if place is None:
            return None
        name = as_text(place)
        return SentFile(data or b"") if name == _HERE else SentFile(stored=name)

    def forget_unused(self, most: int = 100) -> bool:
        """Forget files that nobody needs any more; ``left`` names those in the store.

        Args:
            most: how many are looked at.

        Returns:
            Whether there are more to look at now. A file is looked at every ten minutes.
        """
        named = {"most": most, "keep": _KEEP_S, "pause": _PAUSE_S}
        looked, unfinished = self._base.run("sent_files/forget_unused", "files", **named)
        return bool(unfinished or looked >= most)

    def left(self, until: float, most: int = 100) -> list[str]:
        """Return names of files that have to be removed from the store.

        Args:
            until: those that had to be removed, or were put back, by this time; in seconds since the epoch.
            most: how many at most.
        """
        with redis_errors("files"):
            found = self._client.zrangebyscore(self._key("sent_left"), "-inf", until, start=0, num=most)
            return [as_text(name) for name in found]

    def put_back(self, name: str) -> None:
        """Let a file that cannot be removed from the store now be the last of those that have to be.

        Args:
            name: in the store.
        """
        with redis_errors("files"):
            # Not later than now: its producer must still be told that it comes too late.
            self._client.zadd(self._key("sent_left"), {name: self._base.now()}, xx=True)

    def removed(self, name: str) -> None:
        """Record that a file has been removed from the store.

        Args:
            name: in the store.
        """
        with redis_errors("files"):
            self._client.zrem(self._key("sent_left"), name)
