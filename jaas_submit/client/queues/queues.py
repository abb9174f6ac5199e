"""``Queues``: queues are made, changed, paused, drained and deleted by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaas_submit.connection.caller import caller
from jaas_submit.connection.names import named_queue
from jaas_submit.ledger import Ledger, StoredQueue
from jaas_submit.messaging.queues import lists_of
from jaas_submit.model.records import AuditEntry
from jaas_submit.queues.rules import QueueRules

__all__ = ["Queue", "Queues"]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it is now."""

    name: str
    rules: QueueRules
    """What is said of it."""
    owner: str
    """Who answers for it, for people; may be empty."""
    messages: int
    """Messages in Celery's lists: jobs that no worker has received."""
    kept: int
    """Jobs whose messages workers have received, and that wait until it is resumed."""
    audit: tuple[AuditEntry, ...]
    """Who changed it, and when: the newest 20 changes. ``by`` is what the client says of itself."""

    @property
    def state(self) -> str:
        """``paused``, ``draining``, both in one text, or ``open``."""
        said = [name for name in ("paused", "draining") if getattr(self.rules, name)]
        return ", ".join(said) or "open"


class Queues:
    """The queues of an installation.

    A queue is there from the start of its first worker, or from ``create`` on. Jobs of a queue that is not there have
    the default rules.

    Args:
        ledger: where what is said of them is.

    Every call may raise LedgerUnavailable: Redis does not answer. One that changes something also raises it where the
    user of Redis may not do that (`jaas redis-acl`: role ``operator``).
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def create(self, name: str, **fields: Any) -> Queue:
        """Make a queue.

        Args:
            name: its name, and that of its list for Celery.
            fields: ``owner``, and the fields of ``QueueRules``: ``priority``, ``weight``, ``max_in_flight``, ...

        Raises:
            SpecError: the name or a value is not valid, or there is such a queue.
        """
        self._ledger.queues.create(named_queue(name), fields, caller())
        return self.describe(name)

    def list(self) -> tuple[Queue, ...]:
        """Return all queues, by name."""
        return tuple(self._whole(found) for found in self._ledger.queues.find(self._ledger.queues.names()))

    def describe(self, name: str) -> Queue:
        """Return a queue.

        Args:
            name: of the queue.

        Raises:
            UnknownQueue: there is none of that name.
        """
        return self._whole(self._ledger.queues.get(named_queue(name)))

    def set(self, name: str, **fields: Any) -> Queue:
        """Change what is said of a queue.

        Args:
            name: of the queue.
            fields: see ``create``; None is the default.

        Raises:
            UnknownQueue: there is none of that name.
            SpecError: a value is not valid.
        """
        return self._changed(name, fields, "set")

    def pause(self, name: str, why: str = "") -> Queue:
        """Start none of its jobs from now on. What runs goes on, and new jobs are taken.

        Args:
            name: of the queue.
            why: the reason, for people.

        Raises:
            UnknownQueue: there is none of that name.
        """
        return self._changed(name, {"paused": True}, "pause", why)

    def resume(self, name: str, why: str = "") -> Queue:
        """Start its jobs again, and take new ones: the end of ``pause`` and ``drain``.

        Args:
            name: of the queue.
            why: the reason, for people.

        Raises:
            UnknownQueue: there is none of that name.
        """
        return self._changed(name, {"paused": None, "draining": None}, "resume", why)

    def drain(self, name: str, why: str = "") -> Queue:
        """Take no new jobs from now on: to submit one raises QueueClosed. What waits is started, and what runs goes on.

        Messages of Celery apps that do without jaas are taken: their producers cannot be told.

        Args:
            name: of the queue.
            why: the reason, for people.

        Raises:
            UnknownQueue: there is none of that name.
        """
        return self._changed(name, {"draining": True}, "drain", why)

    def delete(self, name: str) -> None:
        """Delete a queue that is draining and has no jobs.

        Args:
            name: of the queue.

        Raises:
            UnknownQueue: there is none of that name.
            QueueInUse: it takes new jobs, or has jobs or a worker.
        """
        name = named_queue(name)
        self._ledger.queues.delete(name, lists_of(name))

    def _changed(self, name: str, fields: dict[str, Any], what: str, why: str = "") -> Queue:
        self._ledger.queues.change(named_queue(name), fields, what, caller(), why)
        return self.describe(name)

    def _whole(self, found: StoredQueue) -> Queue:
        messages = self._ledger.queries.queue_length(lists_of(found.name))
        return Queue(found.name, found.rules, found.owner, messages, found.kept, found.audit)
