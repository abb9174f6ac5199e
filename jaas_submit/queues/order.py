"""PURE: which line is next.

In this order: the queue with the higher priority; among equal ones the queue that uses less of the cluster for its
weight; in a queue the higher priority of jobs; among tenants with jobs of that priority those that are within their
quota, then the one that uses less for its weight; of a tenant the job that was submitted first.

While a pass admits jobs, what queues and tenants hold only grows, and so does each of these numbers. So heaps hold
numbers that may be too small, and the first entry is corrected when it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heapreplace
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from jaas_submit.queues.snapshot import Line, Waiting

__all__ = ["LineState", "Order"]

T = TypeVar("T")

_NOBODY: Final = Waiting(0.0, "")


class LineState:
    """A line, and how far a pass has come in it.

    Args:
        line: the line.
        number: distinguishes it from the others.
    """

    __slots__ = ("dead", "head", "line", "next", "number")

    def __init__(self, line: Line, number: int) -> None:
        self.line = line
        self.number = number
        self.next = 0
        """Place of its first job that was not admitted."""
        self.head = line.jobs[0] if line.jobs else _NOBODY
        """That job."""
        self.dead = not line.jobs
        """Whether the pass is through with it."""

    def advance(self) -> bool:
        """Go on to the next job; return whether the snapshot has one."""
        self.next += 1
        if self.next < len(self.line.jobs):
            self.head = self.line.jobs[self.next]
            return True
        self.dead = True
        return False


class _Heap(Generic[T]):
    """Things by a number that only grows; see the module."""

    __slots__ = ("_entries", "_is_empty", "_key")

    def __init__(self, things: Iterable[T], key: Callable[[T], Any], is_empty: Callable[[T], bool]) -> None:
        self._key, self._is_empty = key, is_empty
        self._entries: list[tuple[Any, int, T]] = [(key(thing), number, thing) for number, thing in enumerate(things)]
        heapify(self._entries)

    def first(self) -> T | None:
        entries = self._entries
        while entries:
            key, number, thing = entries[0]
            if self._is_empty(thing):
                heappop(entries)
                continue
            current = self._key(thing)
            if current == key:
                return thing
            heapreplace(entries, (current, number, thing))
        return None


_HEAD: Final = attrgetter("head")
_IS_DEAD: Final = attrgetter("dead")


class _Tenant:
    """Lines of one tenant in one queue with one priority."""

    __slots__ = ("lines", "name", "oldest")

    def __init__(self, name: str, lines: list[LineState]) -> None:
        self.name = name
        self.oldest = min(map(_HEAD, lines))
        self.lines = _Heap(lines, _HEAD, _IS_DEAD)

    def is_empty(self) -> bool:
        return self.lines.first() is None


class _Queue:
    """All lines of one queue, the levels of priority as a stack."""

    __slots__ = ("levels", "name")

    def __init__(self, name: str, levels: list[_Heap[_Tenant]]) -> None:
        self.name = name
        self.levels = levels

    def is_empty(self) -> bool:
        while self.levels and self.levels[-1].first() is None:
            self.levels.pop()
        return not self.levels


class Order:
    """The lines in order.

    Args:
        states: the lines.
        priority_of: of a queue.
        queue_key: what part of the cluster a queue uses for its weight.
        tenant_key: the same of a tenant; whatever is compared, a smaller one goes first.
    """

    def __init__(
        self,
        states: Iterable[LineState],
        priority_of: Callable[[str], int],
        queue_key: Callable[[str], Any],
        tenant_key: Callable[[str], Any],
    ) -> None:
        found: dict[str, dict[int, dict[str, list[LineState]]]] = {}
        for state in states:
            queue, tenant, priority, _ = state.line.key
            found.setdefault(queue, {}).setdefault(priority, {}).setdefault(tenant, []).append(state)
        tiers: dict[int, list[_Queue]] = {}
        for queue, levels in found.items():
            heaps = [
                _Heap(
                    [_Tenant(name, lines) for name, lines in levels[priority].items()],
                    lambda tenant: (tenant_key(tenant.name), tenant.oldest),
                    _Tenant.is_empty,
                )
                for priority in sorted(levels)
            ]
            tiers.setdefault(priority_of(queue), []).append(_Queue(queue, heaps))
        self._tenant: _Tenant | None = None
        self._tiers = [
            _Heap(queues, lambda queue: (queue_key(queue.name), queue.name), _Queue.is_empty)
            for _, queues in sorted(tiers.items())
        ]

    def first(self) -> LineState | None:
        """Return the line whose job is next; None if no line is left."""
        if self._tenant is not None:
            # As long as nothing is admitted, no number changes: it stays this tenant's turn.
            state = self._tenant.lines.first()
            if state is not None:
                return state
        while self._tiers:
            queue = self._tiers[-1].first()
            if queue is None:
                self._tiers.pop()
                continue
            self._tenant = queue.levels[-1].first()
            return None if self._tenant is None else self._tenant.lines.first()
        self._tenant = None
        return None

    def admitted(self) -> None:
        """Note that a job was admitted: what its queue and tenant hold has changed."""
        self._tenant = None
