"""A worker, as maintenance sees it, that only notes what it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

__all__ = ["MaintainedWorker"]


@dataclass
class MaintainedWorker:
    """``jaas_worker.maintenance.ports.Worker`` for tests."""

    taking: Callable[[str], object] = str
    """Is called with each job before it counts as taken; raises what the worker would."""
    free: int = 100
    engine_away: bool = False
    messages: int = 1
    unknown: list[str] = field(default_factory=list)
    """What it holds by the ledger and does not know."""
    holds: list[bool] = field(default_factory=list)
    """Whether it was to take no messages, each time that it was told."""
    taken: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Jobs of whose end it was told."""

    def knows(self, job_id: str) -> bool:
        return job_id in self.taken

    def follows(self, job_id: str, service: str) -> bool:
        return False

    def inject(self, job_id: str) -> None:
        self.taking(job_id)
        self.taken.append(job_id)

    def have_ended(self, job_ids: Iterable[str]) -> None:
        self.ended += job_ids

    def let_go_of_unknown(self) -> list[str]:
        return self.unknown

    def room(self) -> int:
        return self.free

    def away(self) -> bool:
        return self.engine_away

    def queue_length(self, queue: str) -> int:
        return self.messages

    def hold_messages(self, yes: bool) -> None:
        self.holds.append(yes)
