"""The base of the ledger's parts: the client, the keys, and running scripts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from jaas_submit.connection.connection import answers, as_text, is_refusal, redis_errors, replicas_asked
from jaas_submit.connection.scripts import ScriptRunner
from jaas_submit.errors import LedgerUnavailable, QueueClosed, UnreadableRecord
from jaas_submit.ledger.lua import source
from jaas_submit.model.bounds import shown
from jaas_submit.model.wire_names import DEFAULT_PREFIX

if TYPE_CHECKING:
    import redis
    from redis.client import Pipeline

__all__ = ["RECORD_TTL", "SET_ASIDE", "Base", "Part", "queue_closed"]

RECORD_TTL: Final = 7 * 86400
"""Seconds that a record and its logs are kept after the job has ended."""

_REPLICATION_TIMEOUT_MS: Final = 1000
"""Time that replicas have to confirm a write, in milliseconds; usually they take one."""

UNREADABLE: Final = "record.unreadable"
"""The action of the log line about an unreadable record."""

SET_ASIDE: Final = 3600.0
"""Seconds until an unreadable record is read again."""

_MOST_NAMED: Final = 500


logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # a program without logging reports such errors itself

R = TypeVar("R")


class Base(ScriptRunner):
    """Shared by all parts of the ledger; see ``Ledger`` for the arguments."""

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX, ttl: float = RECORD_TTL) -> None:
        super().__init__(client, prefix, source)
        self.ttl = int(ttl)
        self.replicas = replicas_asked(client)
        """How many replicas must have a submitted job, and an outcome; 0 waits for none."""
        self.unreadable: dict[str, str] = {}
        """What was unreadable at the last read, and why: "job ID", "batch ID", "worker HOLDER" or "key
        NAME". The latest few hundred."""

    def __repr__(self) -> str:
        return f"Ledger(prefix={self.prefix!r})"

    def run_for(self, job_id: str, script: str, *texts: str | bytes, **named: object) -> Any:
        """Run a script about one job, and return its answer; see ``run``.

        Raises:
            UnreadableRecord: the job's key holds no record.
        """
        try:
            return self.run(script, f"job {job_id}", *texts, id=job_id, **named)
        except LedgerUnavailable as error:
            if is_refusal(error.__cause__):
                self._check_is_record(job_id)
            raise

    def _check_is_record(self, job_id: str) -> None:
        with redis_errors(f"job {job_id}"):
            kind = as_text(self.client.type(self.key("job", job_id)))
        if kind not in {"hash", "none"}:
            raise self.cannot_read(f"job {job_id}", f"its key holds a {kind}, not a hash")

    def add_to(self, pipe: Pipeline, script: str, **named: object) -> None:
        """Let a pipeline run a script without texts.

        Args:
            pipe: of this ledger's client.
            script: as for ``run``.
            named: as for ``run``.
        """
        self._script(script)(args=[self._arguments(named)], client=pipe)

    def cannot_read(self, name: str, why: object) -> UnreadableRecord:
        """Record and log once that something is unreadable; return its error."""
        text = "its key holds another kind of value" if is_refusal(why) else str(why)
        if self.unreadable.get(name) != text:
            while len(self.unreadable) >= _MOST_NAMED:
                self.unreadable.pop(next(iter(self.unreadable)), None)
            self.unreadable[name] = text
            kind, _, job_id = name.partition(" ")
            about = {"job_id": job_id} if kind == "job" else {}
            logger.warning("%s cannot be read: %s", name, text, extra={"action": UNREADABLE, **about})
        return UnreadableRecord(f"{name}: what Redis holds of it cannot be read: {text}")

    def readable(
        self, names: Sequence[str], rows: Sequence[Any], parse: Callable[[str, Any], R | None], what: str = "job"
    ) -> Iterator[R]:
        """Yield the readable ones of several rows; missing ones are skipped, unreadable ones are recorded.

        Args:
            names: the ids.
            rows: Redis' data of each, or its error.
            parse: reads one, and raises UnreadableRecord.
            what: they are of: job or batch.
        """
        for name, row in zip(names, rows, strict=True):
            if isinstance(row, Exception):
                self.cannot_read(f"{what} {name}", row)
                continue
            try:
                read = parse(name, row) if row else None
            except UnreadableRecord as error:
                self.cannot_read(f"{what} {name}", error)
                continue
            self.unreadable.pop(f"{what} {name}", None)
            if read is not None:
                yield read

    def sound(self, pipe: Any, *names: str) -> list[Any]:
        """Return the answers to one command each about several keys; None for one of a wrong type, which is noted.

        Args:
            pipe: with the commands.
            names: the keys' names, without the prefix; none for answers that need no key, which come first.
        """
        found = answers(pipe)
        for place, name in enumerate(names, len(found) - len(names)):
            if isinstance(found[place], Exception):
                self.cannot_read(f"key {self.key(name)}", found[place])
                found[place] = None
            else:
                self.unreadable.pop(f"key {self.key(name)}", None)
        return found

    def replicated(self, *keys: str) -> bool:
        """Return whether as many replicas as the URL asks for have all writes until now.

        Args:
            keys: must also exist: a fail-over may have come between writing and asking.
        """
        if not self.replicas:
            return True
        with redis_errors("replicas"):
            pipe = self.client.pipeline(transaction=False)
            # WAIT covers the writes of its own connection; replicas get all writes in one order.
            pipe.set(self.key("replicated"), 1, ex=60)
            pipe.wait(self.replicas, _REPLICATION_TIMEOUT_MS)
            pipe.exists(*keys or (self.key("replicated"),))
            _, confirmed, there = pipe.execute()
        return bool(confirmed >= self.replicas and there >= len(keys))

    def now(self) -> float:
        """Return Redis' clock, in seconds since the epoch."""
        with redis_errors("clock"):
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6


class Part:
    """A part of the ledger, for one kind of caller.

    Args:
        base: of the ledger that it is a part of.
    """

    def __init__(self, base: Base) -> None:
        self._base = base
        self._client = base.client
        self._key = base.key
        self._channel = base.channel


def queue_closed(name: str) -> QueueClosed:
    """Return the error for a queue that takes no new jobs."""
    return QueueClosed(
        f"queue: {shown(name)} is draining and takes no new jobs; name another queue (--queue, JAAS_QUEUE), or "
        f"`jaas queue resume {shown(name)}` opens it",
        field="queue",
    )
