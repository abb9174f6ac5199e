"""What every part of the ledger needs: the client, the keys, and a way to run scripts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import redis
from redis.commands.core import Script

from jaas_submit.errors import LedgerUnavailable, UnreadableRecord
from jaas_submit.ledger.connection import as_text, reach
from jaas_submit.ledger.lua_shared import HEAD
from jaas_submit.ledger.sentinel import replicas_asked
from jaas_submit.names import DEFAULT_PREFIX

__all__ = ["Base"]

RECORD_TTL: Final = 7 * 86400
"""Seconds that a record and its logs are kept after the job has ended."""


UNREADABLE: Final = "record.unreadable"
"""The action of the log's line that names a record."""

SET_ASIDE: Final = 3600.0
"""Seconds for which nobody looks at a record again that could not be read."""

_MOST_NAMED: Final = 500

_REPLICAS_PATIENCE: Final = 1000
"""Milliseconds that replicas have for telling that they have a write; usually they take one."""


logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # a program that sets no logging up says such things itself, or not at all

R = TypeVar("R")


class Base:
    """The ground of the ledger's parts; see ``Ledger`` for the arguments."""

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX, ttl: float = RECORD_TTL) -> None:
        self.client = client
        self.prefix = prefix
        self.ttl = int(ttl)
        self.replicas = replicas_asked(client)
        """How many replicas must have a submitted job, and an outcome; 0 waits for none."""
        self.unreadable: dict[str, str] = {}
        """What could not be read when it was last looked at, and why: "job ID", "batch ID", "worker HOLDER" or "key
        NAME". The latest hundreds."""
        self._scripts: dict[str, Script] = {}

    def __repr__(self) -> str:
        return f"Ledger(prefix={self.prefix!r})"

    def _key(self, *parts: object) -> str:
        return ":".join([self.prefix, *map(str, parts)])

    def _script(self, code: str) -> Script:
        """Return a script by its Lua code; Redis is sent the code once and then its digest."""
        if code not in self._scripts:
            self._scripts[code] = self.client.register_script(HEAD + code)
        return self._scripts[code]

    def _run(self, code: str, job_id: str, *args: Any) -> Any:
        try:
            with reach(f"job {job_id}"):
                return self._script(code)(keys=[self._key("job", job_id)], args=[self.prefix, job_id, *args])
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, redis.ResponseError):
                self._check_is_record(job_id)
            raise

    def _check_is_record(self, job_id: str) -> None:
        """Raise UnreadableRecord where a job's key holds no record."""
        with reach(f"job {job_id}"):
            kind = as_text(self.client.type(self._key("job", job_id)))
        if kind not in {"hash", "none"}:
            raise self._cannot_read(f"job {job_id}", f"its key holds a {kind}, not a hash")

    def _run_all(self, what: str, code: str, *args: Any) -> Any:
        with reach(what):
            return self._script(code)(args=[self.prefix, *args])

    def _cannot_read(self, name: str, why: object) -> UnreadableRecord:
        """Note, and log once, that something cannot be read; return the error that says so."""
        text = "its key holds another kind of value" if isinstance(why, redis.ResponseError) else str(why)
        if self.unreadable.get(name) != text:
            while len(self.unreadable) >= _MOST_NAMED:
                self.unreadable.pop(next(iter(self.unreadable)), None)
            self.unreadable[name] = text
            kind, _, job_id = name.partition(" ")
            about = {"job_id": job_id} if kind == "job" else {}
            logger.warning("%s cannot be read: %s", name, text, extra={"action": UNREADABLE, **about})
        return UnreadableRecord(f"{name}: what Redis holds of it cannot be read: {text}")

    def _readable(
        self, names: Sequence[str], rows: Sequence[Any], parse: Callable[[str, Any], R | None], what: str = "job"
    ) -> Iterator[R]:
        """Yield what can be read of several rows; those that are missing are left out, the others are noted.

        Args:
            names: the ids.
            rows: what Redis holds of each, or the error that it answered.
            parse: reads one, and raises UnreadableRecord.
            what: they are of: job or batch.
        """
        for name, row in zip(names, rows, strict=True):
            if isinstance(row, Exception):
                self._cannot_read(f"{what} {name}", row)
                continue
            try:
                read = parse(name, row) if row else None
            except UnreadableRecord as error:
                self._cannot_read(f"{what} {name}", error)
                continue
            self.unreadable.pop(f"{what} {name}", None)
            if read is not None:
                yield read

    def replicated(self, *keys: str) -> bool:
        """Return whether as many replicas as the URL asks for have everything that was written until now.

        Args:
            keys: what must be there, too: a fail-over may have come between writing and asking.
        """
        if not self.replicas:
            return True
        with reach("replicas"):
            pipe = self.client.pipeline(transaction=False)
            # WAIT is about what its own connection has written; replicas get all writes in one order.
            pipe.set(self._key("replicated"), 1, ex=60)
            pipe.wait(self.replicas, _REPLICAS_PATIENCE)
            pipe.exists(*keys or (self._key("replicated"),))
            _, confirmed, there = pipe.execute()
        return bool(confirmed >= self.replicas and there >= len(keys))

    def now(self) -> float:
        """Return Redis' clock, in seconds since the epoch."""
        with reach("clock"):
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6
