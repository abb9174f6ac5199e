"""The ledger, for `explain`: what a job's record does not say."""

from __future__ import annotations

from jaas_submit.explain import Awaited, Surroundings, WorkerLoad
from jaas_submit.ledger.batches import BatchPart
from jaas_submit.ledger.connection import answers, as_text, reach
from jaas_submit.ledger.readers import ReaderPart
from jaas_submit.records import BatchRecord, JobRecord
from jaas_submit.states import JobState

__all__ = ["AroundPart"]

_COUNTED = 2000
"""Jobs ahead that are asked for their queue; of more, all count, as an exact number would cost more than it tells."""


class AroundPart(BatchPart, ReaderPart):
    """What is around a job."""

    def around(self, record: JobRecord) -> Surroundings:
        """Return what there is to know of a job's place: its queue, the workers, the nodes, what it waits for."""
        waiting = record.state is JobState.WAITING
        line = self._line(record) if waiting and record.batch else None
        return Surroundings(
            cluster=self.cluster(),
            ahead=self.ahead(record.id, record.queue) if record.state is JobState.QUEUED else 0,
            workers=tuple(WorkerLoad.model_validate(worker) for worker in self.workers()),
            after=self._awaited(record) if waiting and line is None else (),
            batch=None if line is None else self.batch(record.batch),
            line=line,
        )

    def ahead(self, job_id: str, queue: str) -> int:
        """Return how many QUEUED jobs of a queue were submitted before this one."""
        key = self._key("state", JobState.QUEUED)
        with reach("queue"):
            rank = self.client.zrank(key, job_id)
            if not isinstance(rank, int) or rank > _COUNTED:
                return rank if isinstance(rank, int) else 0
            pipe = self.client.pipeline(transaction=False)
            for other in self.client.zrange(key, 0, rank - 1) if rank else ():
                pipe.hget(self._key("job", as_text(other)), "queue")
            return sum(isinstance(found, bytes) and as_text(found) == queue for found in answers(pipe))

    def _line(self, record: JobRecord) -> int | None:
        """Return how many jobs stand in line before this one; None where it is in no line."""
        with reach("batch"):
            rank = self.client.zrank(self._key("batch", record.batch, "line"), record.id)
        return rank if isinstance(rank, int) else None

    def _awaited(self, record: JobRecord) -> tuple[Awaited, ...]:
        """Return how those stand that the job comes after."""
        known: dict[str, JobRecord | BatchRecord] = {}
        jobs = [name for name, _ in record.after if not name.startswith("batch:")]
        known.update((job.id, job) for job in self.find(jobs))
        batches = [name.removeprefix("batch:") for name, _ in record.after if name.startswith("batch:")]
        known.update((f"batch:{batch.id}", batch) for batch in self.find_batches(batches))
        return tuple(_awaited(name, on, known.get(name)) for name, on in record.after)


def _awaited(name: str, on: str, found: JobRecord | BatchRecord | None) -> Awaited:
    words = name.replace("batch:", "batch ") if name.startswith("batch:") else f"job {name}"
    if found is None:  # what has expired had ended
        return Awaited(name=words, on=on, state="", ended=True)
    if isinstance(found, JobRecord):
        return Awaited(name=words, on=on, state=found.state, ended=found.terminal)
    total = found.size if found.total is None else found.total
    state = found.state or f"open, with {found.ended:,} of {total:,} jobs ended"
    return Awaited(name=words, on=on, state=state, ended=found.done)
