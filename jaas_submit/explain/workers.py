"""PURE: which workers take a queue's jobs, and why none does now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jaas_submit.model.bounds import counted

__all__ = ["Limit", "WorkerLoad", "takers", "why_not_taken"]

Limit = Literal["engine", "max_in_flight", "max_starting", "max_parallel", "after", "not_before"]
"""What prevents a job's start: the workers' engine or limits, its batch's limit, what it comes after, or its time."""


class WorkerLoad(BaseModel):
    """A live worker's last report about its work."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    holder: str
    node: str = ""
    queue: str = ""
    queues: tuple[str, ...] = Field((), description="all that it takes; empty: an older worker, which reports one")
    in_flight: int = Field(0, description="jobs that it holds")
    starting: int = Field(0, description="those of them whose container does not run yet")
    max_in_flight: int | None = Field(None, description="None: an older worker, which does not report it")
    window: int | None = Field(None, description="how many may be starting at once: JAAS_MAX_STARTING, or fewer")
    engine_unavailable: str = Field("", description="why it takes no new jobs: its engine's error")

    @property
    def limit(self) -> Limit | None:
        """The limit that prevents it from starting another job now."""
        if self.engine_unavailable:
            return "engine"
        if self.max_in_flight is not None and self.in_flight >= self.max_in_flight:
            return "max_in_flight"
        if self.window is not None and self.starting >= self.window:
            return "max_starting"
        return None

    def takes(self, queue: str) -> bool:
        """Return whether it consumes a queue; a worker that reports none may consume any.

        Args:
            queue: the Celery queue.
        """
        return queue in self.queues or self.queue in {"", queue}


def takers(queue: str, workers: Sequence[WorkerLoad]) -> tuple[WorkerLoad, ...]:
    """Return the workers that consume a queue.

    Args:
        queue: the Celery queue.
        workers: those that are alive.
    """
    return tuple(worker for worker in workers if worker.takes(queue))


def why_not_taken(queue: str, prefix: str, workers: Sequence[WorkerLoad], others: Mapping[str, int]) -> str:
    """Return in one sentence, without its full stop, why no worker takes a queue's next job; empty where one does.

    Args:
        queue: the Celery queue.
        prefix: of the ledger.
        workers: those that are alive.
        others: how many workers of other prefixes are alive in the same Redis.
    """
    if not workers:
        return _none_alive(prefix, others)
    able = takers(queue, workers)
    if not able:
        served = ", ".join(sorted({repr(worker.queue) for worker in workers}))
        return (
            f"no worker takes queue {queue!r}; {_alive(len(workers))}, for {served}: "
            f"name that queue (--queue, JAAS_QUEUE), or start a worker with JAAS_QUEUE={queue}"
        )
    limits = {worker.limit for worker in able}
    if limits == {"engine"}:
        away = able[0]
        return f"no worker takes new jobs: {away.node or away.holder}: {away.engine_unavailable.strip().rstrip('.')}"
    if limits <= {"engine", "max_in_flight"}:
        full = sum(worker.in_flight for worker in able)
        return f"no worker has room: {_alive(len(able))}, holding {counted(full, 'job')}, as JAAS_MAX_IN_FLIGHT allows"
    return ""


def _none_alive(prefix: str, others: Mapping[str, int]) -> str:
    if not others:
        return "no worker is alive; `jaas worker` starts one, `jaas doctor` says more"
    found = ", ".join(f"{name!r} ({count})" for name, count in list(others.items())[:3])
    return f"no worker with prefix {prefix!r} is alive; there are some with {found}: name it (--prefix, JAAS_PREFIX)"


def _alive(count: int) -> str:
    return f"{counted(count, 'worker')} {'is' if count == 1 else 'are'} alive"
