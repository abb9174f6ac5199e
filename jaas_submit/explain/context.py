"""What is read from the ledger to explain why a job waits, or why it ended."""

from __future__ import annotations

from datetime import UTC, datetime

from jaas_submit.explain.explanation import Awaited, ExplainContext, Explanation, explain
from jaas_submit.explain.workers import WorkerLoad, why_not_taken
from jaas_submit.ledger import Ledger
from jaas_submit.model.records import BatchRecord, JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.output.leases import AgentLeases

__all__ = ["explain_context", "explain_job", "why_queue_waits"]


def explain_job(ledger: Ledger, job_id: str) -> Explanation:
    """See ``Client.explain``."""
    record = ledger.queries.get(job_id)
    now = datetime.fromtimestamp(ledger.now(), UTC)
    return explain(record, explain_context(ledger, record), now)


def why_queue_waits(ledger: Ledger, queue: str) -> str:
    """Return in one sentence, without its full stop, why no worker takes a queue's next job; empty where one does.

    Args:
        ledger: is asked for the workers.
        queue: the Celery queue.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    workers = [WorkerLoad.model_validate(worker) for worker in ledger.queries.workers()]
    others = {} if workers else ledger.health.other_prefixes()
    return why_not_taken(queue, ledger.prefix, workers, others)


def explain_context(ledger: Ledger, record: JobRecord) -> ExplainContext:
    """Return a job's context: its queue, the workers, the nodes, and what it waits for.

    Args:
        ledger: is asked.
        record: the job's.

    Raises:
        LedgerUnavailable: Redis cannot be reached, or refuses.
    """
    waiting = record.state is JobState.WAITING
    line = ledger.batches.waiting_before(record.batch, record.id) if waiting and record.batch else None
    cluster = ledger.queries.cluster()
    nodes = [node.id for node in cluster.nodes] if cluster else []
    return ExplainContext(
        cluster=cluster,
        facts=AgentLeases(ledger.client, ledger.prefix).facts(nodes),
        ahead=ledger.queries.ahead(record.id, record.queue) if record.state is JobState.QUEUED else 0,
        workers=tuple(WorkerLoad.model_validate(worker) for worker in ledger.queries.workers()),
        after=_all_awaited(ledger, record) if waiting and line is None else (),
        batch=None if line is None else ledger.batches.get(record.batch),
        line=line,
    )


def _all_awaited(ledger: Ledger, record: JobRecord) -> tuple[Awaited, ...]:
    """Return the states of the jobs and batches that the job comes after."""
    known: dict[str, JobRecord | BatchRecord] = {}
    jobs = [name for name, _ in record.after if not name.startswith("batch:")]
    known.update((job.id, job) for job in ledger.queries.find(jobs))
    batches = [name.removeprefix("batch:") for name, _ in record.after if name.startswith("batch:")]
    known.update((f"batch:{batch.id}", batch) for batch in ledger.batches.find(batches))
    return tuple(_awaited(name, on, known.get(name)) for name, on in record.after)


def _awaited(name: str, on: str, found: JobRecord | BatchRecord | None) -> Awaited:
    words = name.replace("batch:", "batch ") if name.startswith("batch:") else f"job {name}"
    if found is None:  # expired records had ended
        return Awaited(name=words, on=on, state="", ended=True)
    if isinstance(found, JobRecord):
        return Awaited(name=words, on=on, state=found.state, ended=found.terminal)
    total = found.size if found.total is None else found.total
    state = found.state or f"open, with {found.ended:,} of {total:,} jobs ended"
    return Awaited(name=words, on=on, state=state, ended=found.done)
