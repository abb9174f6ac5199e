"""The worker, as maintenance sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["Worker"]


class Worker(Protocol):
    """What the duties ask of their worker, and tell it; ``jaas_worker.messaging.pool.TaskPool`` is one."""

    def knows(self, job_id: str) -> bool:
        """Return whether the worker has a job already, be it only in its launch queue."""

    def follows(self, job_id: str, service: str) -> bool:
        """Return whether a service, by its name, is the one that the worker follows for a job."""

    def inject(self, job_id: str) -> None:
        """Take a job as if its message had just arrived; raises UnknownJob, UnreadableRecord, TemporaryError."""

    def have_ended(self, job_ids: Iterable[str]) -> None:
        """Learn of jobs whose end is written down, so that no place in the swarm is kept for them."""

    def let_go_of_unknown(self) -> list[str]:
        """Give up what the worker holds by the ledger and does not know; return the ids."""

    def room(self) -> int:
        """Return how many more jobs the worker would take now."""

    def away(self) -> bool:
        """Return whether the worker's engine is of no use now: jobs which need it are left to others."""

    def queue_length(self, queue: str) -> int:
        """Return how many messages wait in a queue."""

    def hold_messages(self, yes: bool) -> None:
        """Take no messages off the queue, or take them again; what the worker has goes on."""
