"""The rules of queues: who reads them, who changes them, and what becomes of the jobs that they held."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from jaas_submit.connection.connection import answers, as_text, redis_errors
from jaas_submit.errors import LedgerUnavailable, QueueInUse, SpecError, UnknownQueue, UnreadableRecord
from jaas_submit.ledger.base import Base, Part, queue_closed
from jaas_submit.ledger.encoding import reading
from jaas_submit.ledger.queries import Queries
from jaas_submit.model.bounds import shown
from jaas_submit.model.records import AuditEntry
from jaas_submit.queues.rules import QueueRules

__all__ = ["Queues", "StoredQueue"]

OPENED_AT_ONCE: Final = 500
"""Kept jobs that one script lets go on."""

_FIELDS: Final = tuple(one.name for one in fields(QueueRules))
_PAGE: Final = 1000
_LONGEST: Final = 64 * 1024
"""Bytes of the stored rules of one queue; longer ones were not written by us."""

_MOST_OF_OWNER: Final = 128


@dataclass(frozen=True, slots=True)
class StoredQueue:
    """What is said of a queue, and how many of its jobs are kept because of that."""

    name: str
    rules: QueueRules = field(default_factory=QueueRules)
    owner: str = ""
    audit: tuple[AuditEntry, ...] = ()
    """Who has changed it, the newest 20 changes."""
    kept: int = 0

    def last(self, what: str) -> AuditEntry | None:
        """Return the newest change of a kind, such as ``pause``; None if it is not among the newest 20."""
        return next((entry for entry in reversed(self.audit) if entry.what == what), None)


class Queues(Part):
    """Queues by their names.

    Args:
        base: of the ledger that it is a part of.
        queries: of the same ledger.
    """

    def __init__(self, base: Base, queries: Queries) -> None:
        super().__init__(base)
        self._queries = queries

    def names(self) -> list[str]:
        """Return the names of all queues that somebody has made, or that a worker serves."""
        with redis_errors("queues"):
            return sorted(as_text(name) for name in self._client.hkeys(self._key("queues")))

    def get(self, name: str) -> StoredQueue:
        """Return a queue.

        Raises:
            UnknownQueue: there is none of that name.
        """
        if found := self.find([name]):
            return found[0]
        raise _unknown(name)

    def find(self, names: Sequence[str]) -> list[StoredQueue]:
        """Return those queues that there are; of rules that cannot be read, ``paused`` and ``draining``
        hold, and the others are the default ones."""
        if not names:
            return []
        with redis_errors("queues"):
            pipe = self._client.pipeline(transaction=False)
            for name in names:
                pipe.hget(self._key("queues"), name)
                pipe.hget(self._key("rule_changes"), f"queue:{name}")
                pipe.zcard(self._key("kept", f"queue:{name}"))
            found = answers(pipe)
        made = []
        for number, name in enumerate(names):
            said, audit, kept = found[3 * number : 3 * number + 3]
            if said is not None:
                made.append(self._stored(name, said, audit, kept))
        return made

    def _stored(self, name: str, said: Any, audit: Any, kept: Any) -> StoredQueue:
        count = kept if isinstance(kept, int) else 0
        wrong: UnreadableRecord | None = None
        owner, changes = "", tuple[AuditEntry, ...]()
        try:
            with reading():
                rules, owner = _parsed(said)
        except UnreadableRecord as error:
            wrong, rules = error, _switches(said)
        try:
            with reading():
                changes = _changes(audit)
        except UnreadableRecord as error:
            wrong = error
        if wrong:
            self._base.cannot_read(f"queue {name}", wrong)
        else:
            self._base.unreadable.pop(f"queue {name}", None)
        return StoredQueue(name, rules, owner, changes, count)

    def is_paused(self, name: str) -> bool:
        """Return whether a queue is paused; one that nobody has made is not."""
        found = self.find([name])
        return bool(found) and found[0].rules.paused

    def check_takes_jobs(self, name: str) -> None:
        """Refuse a queue that takes no new jobs, before something is written that is of no use without them.

        Where the rules cannot be read, nothing is refused: the script that writes the jobs checks them again.

        Raises:
            QueueClosed: it is draining.
        """
        with contextlib.suppress(LedgerUnavailable):
            if any(one.rules.draining for one in self.find([name])):
                raise queue_closed(name)

    def ensure(self, name: str) -> None:
        """Make a queue with the default rules, unless there is one: a worker serves it."""
        with redis_errors(f"queue {name}"):
            self._client.hsetnx(self._key("queues"), name, "{}")

    def create(self, name: str, values: Mapping[str, Any], by: str) -> None:
        """Make a queue.

        Args:
            name: of the queue.
            values: field -> value; the others have their defaults.
            by: who makes it.

        Raises:
            SpecError: there is one of that name, or a value is wrong.
        """
        _check(values)
        if not self._change(name, values, (), "create", by, _detail(values), new=True):
            raise SpecError(f"name: there is a queue {shown(name)}; `jaas queue set` changes it", field="name")

    def change(self, name: str, values: Mapping[str, Any], what: str, by: str, why: str = "") -> None:
        """Change what is said of a queue. Jobs that are kept because of what is no more said go on at once.

        Args:
            name: of the queue.
            values: field -> value; None where the field gets its default again.
            what: for the audit: set, pause, resume or drain.
            by: who changes it.
            why: the reason, for people; empty names the values.

        Raises:
            UnknownQueue: there is none of that name.
            SpecError: a value is wrong.
        """
        given = {field: value for field, value in values.items() if value is not None}
        _check(given)
        removed = [field for field, value in values.items() if value is None]
        if not self._change(name, given, removed, what, by, why or _detail(values)):
            raise _unknown(name)

    def _change(
        self,
        name: str,
        values: Mapping[str, Any],
        removed: Collection[str],
        what: str,
        by: str,
        detail: str,
        *,
        new: bool = False,
    ) -> bool:
        named = {"values": dict(values), "removed": list(removed), "verb": what, "by": by, "detail": detail}
        done = self._base.run("queues/change", f"queue {shown(name)}", name=name, new=new, most=OPENED_AT_ONCE, **named)
        return bool(done)

    def delete(self, name: str, lists: Sequence[str]) -> None:
        """Delete a queue that is draining and has no jobs.

        Args:
            name: of the queue.
            lists: the lists that Celery keeps its messages in.

        Raises:
            UnknownQueue: there is none of that name.
            QueueInUse: it takes new jobs, or has jobs or a worker.
        """
        if self.get(name).rules.draining:  # from here on nobody adds jobs, and those that are there are counted
            self._check_unused(name)
        answer = as_text(self._base.run("queues/delete", f"queue {shown(name)}", name=name, lists=list(lists)))
        if answer == "unknown":
            raise _unknown(name)
        if answer == "open":
            raise QueueInUse(f"queue {shown(name)} takes new jobs; `jaas queue drain {name}` before it is deleted")
        if answer != "done":
            raise QueueInUse(f"queue {shown(name)} has {answer} jobs that wait; they have to start, or to be cancelled")

    def _check_unused(self, name: str) -> None:
        for worker in self._queries.workers():
            if name in {worker.get("queue"), *worker.get("queues", ())}:
                raise QueueInUse(f"queue {shown(name)} has a worker ({worker['holder']}); stop it first")
        ids = self._queries.active()
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            with redis_errors("jobs"):
                pipe = self._client.pipeline(transaction=False)
                for job_id in page:
                    pipe.hget(self._key("job", job_id), "queue")
                queues = answers(pipe)
            for job_id, queue in zip(page, queues, strict=True):
                if isinstance(queue, bytes) and as_text(queue) == name:
                    raise QueueInUse(f"queue {shown(name)} has jobs that have not ended, such as {job_id}")

    def open_kept(self, name: str) -> None:
        """Have workers let the jobs go on that are kept of a queue, unless it is paused again meanwhile."""
        with redis_errors(f"queue {name}"):
            self._client.sadd(self._key("opening"), f"queue:{name}")

    def open_more(self, most: int = OPENED_AT_ONCE) -> bool:
        """Go on with opening places that have more kept jobs than one script lets go on.

        Args:
            most: how many jobs at most.

        Returns:
            Whether there is still more.
        """
        return bool(self._base.run("queues/open_more", "kept jobs", most=most))


def _unknown(name: str) -> UnknownQueue:
    return UnknownQueue(f"there is no queue {shown(name)}; `jaas queue create {shown(name)}` makes it")


def _check(values: Mapping[str, Any]) -> None:
    """Refuse values that are wrong.

    Raises:
        SpecError: a field is unknown, or its value is wrong.
    """
    owner = values.get("owner", "")
    if not isinstance(owner, str) or len(owner) > _MOST_OF_OWNER:
        raise SpecError(f"owner: must be a text of {_MOST_OF_OWNER} characters at most", field="owner")
    _rules({name: value for name, value in values.items() if name != "owner"})


def _rules(values: Mapping[str, Any]) -> QueueRules:
    for name in values:
        if name not in _FIELDS:
            known = ", ".join(one for one in (*_FIELDS, "owner") if one not in {"paused", "draining"})
            raise SpecError(f"{shown(name)}: is no field of a queue; it has {known}", field=shown(name))
    if not isinstance(values.get("wait_limits", {}), Mapping):
        raise SpecError("wait_limits: must be an object, such as {'capacity': 14400}", field="wait_limits")
    for name in ("paused", "draining"):
        if not isinstance(values.get(name, False), bool):
            raise SpecError(f"{name}: must be true or false", field=name)
    return QueueRules(**values)


def _parsed(stored: Any) -> tuple[QueueRules, str]:
    """Return the rules and the owner in what is stored; fields of a newer version are left out."""
    if not isinstance(stored, bytes) or len(stored) > _LONGEST:
        raise ValueError(f"it is no text of {_LONGEST:,} bytes at most")
    said = json.loads(stored)
    if not isinstance(said, dict):
        raise TypeError("it is no object")
    return _rules({name: value for name, value in said.items() if name in _FIELDS}), str(said.get("owner", ""))


def _switches(stored: Any) -> QueueRules:
    """Return what holds jobs back in rules that cannot be read: the ledger's scripts follow it."""
    try:
        said = json.loads(stored) if isinstance(stored, bytes) and len(stored) <= _LONGEST else None
    except (ValueError, RecursionError):
        return QueueRules()
    if not isinstance(said, dict):
        return QueueRules()
    return QueueRules(paused=said.get("paused") is True, draining=said.get("draining") is True)


def _changes(audit: Any) -> tuple[AuditEntry, ...]:
    if not isinstance(audit, bytes):
        return ()
    return tuple(AuditEntry.model_validate(item) for item in json.loads(audit))


def _detail(values: Mapping[str, Any]) -> str:
    return shown(", ".join(f"{name}={json.dumps(value)}" for name, value in values.items()), 200)
