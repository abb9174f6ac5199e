"""What producers read of jobs and batches from the ledger: results, output, lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final

from jaas_submit.errors import JobNotEnded, SpecError
from jaas_submit.ledger import Ledger, Outline
from jaas_submit.model.causes import Cause
from jaas_submit.model.fields import parse_duration
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import BatchRecord, JobRecord
from jaas_submit.model.result import CapturedOutput, JobResult
from jaas_submit.model.states import TERMINAL, JobState
from jaas_submit.model.validation import labels_or_none, member
from jaas_submit.output.leases import AgentLeases

if TYPE_CHECKING:
    from jaas_submit.explain.explanation import Explanation
    from jaas_submit.placement.placement import NodeFit
    from jaas_submit.usage.report import UsageReport

__all__ = [
    "UNSUCCESSFUL",
    "Reader",
    "active",
    "batch_job_ids",
    "batch_jobs",
    "batch_result",
    "check_forgettable",
    "ended_since",
    "history",
    "html_of_batch",
    "html_of_job",
    "html_table",
    "no_logs",
    "numbered_logs",
    "outlines",
    "reasons",
    "result",
    "result_of",
]

UNSUCCESSFUL: Final = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED})
"""Final states other than success."""

_PAGE: Final = 500
"""Records that are read at once."""


def result(ledger: Ledger, job_id: str) -> JobResult:
    """See ``Client.result``."""
    return result_of(ledger, ledger.queries.get(job_id))


def result_of(ledger: Ledger, record: JobRecord) -> JobResult:
    """Return the result of a job that has ended, with the output of its last attempt.

    Args:
        ledger: where the output is.
        record: the job's.

    Raises:
        ValueError: it has not ended.
        LedgerUnavailable: Redis does not answer.
    """
    last = record.last
    captured = (ledger.queries.logs(record.id, last.number) if last else None) or no_logs(record)
    return JobResult.of(record, CapturedOutput.of(captured))


def numbered_logs(ledger: Ledger, job_id: str, attempt: int | None) -> tuple[int, Logs]:
    """Return an attempt's number and what the ledger has of its output; see ``Client.logs``."""
    record = ledger.queries.get(job_id)
    # An end between two attempts (cancelled, deadline) has no number and no output.
    last = next((ended.number for ended in reversed(record.attempts) if ended.number), record.attempt)
    number = attempt or last
    return number, ledger.queries.logs(job_id, number) or no_logs(record)


def no_logs(record: JobRecord) -> Logs:
    """Return what stands for the output of a job where the ledger has none: it says why."""
    if not record.terminal:
        return Logs(
            status=LogStatus.UNAVAILABLE, reason=f"the job is {record.state}; output is stored when it has ended"
        )
    if record.last and record.last.container_id is None:
        return Logs(reason="no container ran, so there is no output")
    return Logs(status=LogStatus.UNAVAILABLE, reason="the output has expired")


def check_forgettable(ledger: Ledger, record: JobRecord) -> None:
    """Refuse to forget a job that somebody still needs; see ``Client.forget``."""
    if not record.terminal:
        raise JobNotEnded(f"job {record.id} is {record.state}; `jaas cancel {record.id}` ends it first")
    if not record.reported:
        raise JobNotEnded(f"job {record.id} has ended, but no worker has reported it to Celery yet; try again later")
    if record.batch and any(not batch.done for batch in ledger.batches.find([record.batch])):
        raise JobNotEnded(f"job {record.id} belongs to batch {record.batch}, which has not ended")


def history(
    ledger: Ledger, state: JobState | None, limit: int, labels: Mapping[str, str] | None, cause: Cause | None
) -> list[JobRecord]:
    """See ``Client.history``."""
    found: list[JobRecord] = []
    for record in _scan(ledger, state):
        if not _has_labels(record, labels):
            continue
        if cause and not (record.last and record.last.cause is cause):
            continue
        found.append(record)
        if len(found) >= limit:
            break
    return found


def active(ledger: Ledger, labels: Mapping[str, str] | None) -> list[JobRecord]:
    """See ``Client.active``."""
    found: list[JobRecord] = []
    ids = ledger.queries.active()
    for start in range(0, len(ids), _PAGE):
        records = ledger.queries.find(ids[start : start + _PAGE])
        found += [record for record in records if not record.terminal and _has_labels(record, labels)]
    return found


def outlines(ledger: Ledger, job_ids: Sequence[str]) -> list[Outline]:
    """Return the outlines of those of the jobs that have a record.

    Args:
        ledger: where they are.
        job_ids: their ids, any number.
    """
    pages = (job_ids[start : start + _PAGE] for start in range(0, len(job_ids), _PAGE))
    return [one for page in pages for one in ledger.queries.outlines(page)]


def batch_jobs(ledger: Ledger, batch_id: str, states: Collection[JobState] = ()) -> Iterator[JobRecord]:
    """See ``Batch.records``."""
    span = ledger.batches.get(batch_id).span
    order = ledger.queries.batch_order(batch_id)
    places: Sequence[int] = range(span)
    if order is not None:
        placed = set(order)
        places = [*order, *(place for place in places if place not in placed)]
    for first in range(0, len(places), _PAGE):
        for record in ledger.queries.find(ledger.queries.batch_job_ids(batch_id, places[first : first + _PAGE])):
            if not record.left and (not states or record.state in states):
                yield record


def batch_job_ids(ledger: Ledger, batch_id: str) -> list[str]:
    """Return the ids of the jobs that count in a batch, in the order of its inputs; also of those Redis has lost."""
    batch = ledger.batches.get(batch_id)
    if batch.left or ledger.queries.batch_order(batch_id) is not None:
        return [record.id for record in batch_jobs(ledger, batch_id)]
    return ledger.queries.batch_job_ids(batch_id, range(batch.span))


def batch_result(ledger: Ledger, job_id: str) -> JobResult | None:
    """Return the result of a batch's job that has ended; None if it no longer counts in the batch."""
    record = ledger.queries.get(job_id)
    return None if record.left else result_of(ledger, record)


def reasons(ledger: Ledger, batch_id: str) -> str:
    """See ``Batch.reasons``."""
    counts: Counter[str] = Counter()
    for record in batch_jobs(ledger, batch_id, UNSUCCESSFUL):
        last = record.last
        code = last.exit_code if last else None
        counts[f"exit code {code}" if code else str(last.cause if last else record.state.lower())] += 1
    return ", ".join(f"{count:,} x {what}" for what, count in counts.most_common()) or "no failures"


def _scan(ledger: Ledger, state: JobState | None) -> Iterator[JobRecord]:
    offset = 0
    seen: set[str] = set()
    while ids := ledger.queries.ids(state, _PAGE, offset):
        # While this reads, younger jobs move the others down the list.
        yield from ledger.queries.find([job_id for job_id in ids if job_id not in seen])
        seen.update(ids)
        offset += len(ids)


def ended_since(ledger: Ledger, begin: datetime) -> Iterator[JobRecord]:
    """Yield the records of jobs that have ended since some time, a page of them at a time.

    Args:
        ledger: where they are.
        begin: the time, by Redis' clock.
    """
    for state in sorted(TERMINAL):
        offset, page = 0, set[str]()
        while ids := ledger.queries.ids(state, _PAGE, offset):
            # While this reads, younger jobs move the others down the list.
            records = ledger.queries.find([job_id for job_id in ids if job_id not in page])
            yield from (record for record in records if record.updated_at >= begin)
            if records and records[-1].updated_at < begin:
                break
            offset, page = offset + len(ids), set(ids)


def _seconds(what: str, value: float | str) -> float:
    try:
        return parse_duration(value)
    except (ValueError, TypeError) as error:
        raise SpecError(f"{what}: {error}", field=what) from None


def _has_labels(record: JobRecord, labels: Mapping[str, str] | None) -> bool:
    return not labels or (record.spec is not None and labels.items() <= record.spec.labels.items())


def html_table(rows: Sequence[tuple[str, object]]) -> str:
    """Return names and values as an HTML table; empty ones are left out.

    Args:
        rows: the names and values.
    """
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows
        if value not in {None, ""}
    )
    return f"<table>{cells}</table>"


def html_of_job(record: JobRecord) -> str:
    """Return a job as an HTML table; see ``JobHandle``."""
    last = record.last
    return html_table(
        [
            ("job", record.id),
            ("state", record.state),
            ("runs", record.label),
            ("node", record.node),
            ("exit code", last.exit_code if last else None),
            ("reason", last.reason if last else record.detail),
        ]
    )


def html_of_batch(record: BatchRecord) -> str:
    """Return a batch as an HTML table; see ``Batch``."""
    counts = [(state.lower(), f"{count:,}") for state, count in record.counts.items() if count]
    ended = f"{record.ended:,} of {record.size if record.total is None else record.total:,}"
    return html_table(
        [("batch", record.id), ("name", record.name), ("state", record.state or "open"), ("ended", ended), *counts]
    )


class Reader:
    """The methods of ``Client`` that read, and those that need nothing but the ledger."""

    ledger: Ledger
    queue: str

    def batches(self, limit: int = 100) -> list[BatchRecord]:
        """Return the records of batches, youngest first.

        Args:
            limit: at most this many.
        """
        return self.ledger.batches.recent(limit)

    def forget(self, job_id: str) -> None:
        """Delete the record and the output of a job that has ended.

        Args:
            job_id: the job's id.

        Raises:
            JobNotEnded: it has not ended, or its batch has not, or Celery does not have its result yet.
            UnknownJob: there is no record, or it has expired.
        """
        check_forgettable(self.ledger, record := self.ledger.queries.get(job_id))
        self.ledger.submission.forget(job_id, record.attempt)

    def explain(self, job_id: str) -> Explanation:
        """Return why a job waits, or why it ended, in plain words.

        Args:
            job_id: the job's id.

        Raises:
            UnknownJob: there is no record, or it has expired.
        """
        from jaas_submit.explain.context import explain_job

        return explain_job(self.ledger, job_id)

    def placement(self, spec: JobSpec | Mapping[str, Any]) -> tuple[NodeFit, ...]:
        """Return on which nodes a job would fit, before it is submitted; empty if no worker has reported nodes.

        The image's platforms count if its registry told a worker of them in the last day.

        Args:
            spec: the job's description.
        """
        from jaas_submit.placement.placement import placement

        spec, cluster = JobSpec.parse(spec), self.ledger.queries.cluster()
        if cluster is None:
            return ()
        facts = AgentLeases(self.ledger.client, self.ledger.prefix).facts([node.id for node in cluster.nodes])
        return placement(spec, cluster, self.ledger.queries.platforms(spec.image), facts)

    def usage(self, by: str = "image", since: float | str = "24h") -> UsageReport:
        """Return what jobs used, in groups, beside what they reserved.

        It counts the jobs that have ended in that time and whose records are kept (JAAS_RECORD_TTL, 7 days), with all
        their attempts.

        Args:
            by: ``image``, ``queue``, ``batch``, or ``label=NAME``.
            since: how long ago, in seconds or as a text such as ``24h``.

        Raises:
            SpecError: one of them is not valid.
        """
        from jaas_submit.usage.report import report

        begin = datetime.fromtimestamp(max(self.ledger.now() - _seconds("since", since), 0.0), UTC)
        return report(ended_since(self.ledger, begin), by, begin)

    def refusals(self, spec: JobSpec | Mapping[str, Any]) -> tuple[str, ...]:
        """Return why the policy of the queue's workers would refuse a job; empty if one of them would take it.

        What only an engine knows is left to the workers: digests, and the labels of secrets, configs and networks.

        Args:
            spec: the job's description.
        """
        from jaas_submit.explain.refusals import refusals_of  # the whole policy: most producers never ask

        return tuple(refusals_of(JobSpec.parse(spec), self.queue, self.ledger.queries.workers()))

    def history(
        self,
        state: JobState | str | None = None,
        limit: int = 100,
        *,
        labels: Mapping[str, str] | None = None,
        cause: Cause | str | None = None,
    ) -> list[JobRecord]:
        """Return records, youngest first.

        Args:
            state: only jobs in this state, such as ``JobState.FAILED`` or ``"failed"``; FAILED ones are the dead
                letters.
            limit: at most this many.
            labels: only jobs whose description has all these labels.
            cause: only jobs whose last attempt ended by this cause.

        Raises:
            SpecError: there is no such state or cause, or the labels are no mapping.
        """
        return history(
            self.ledger, member(JobState, "state", state), limit, labels_or_none(labels), member(Cause, "cause", cause)
        )

    def active(self, labels: Mapping[str, str] | None = None) -> list[JobRecord]:
        """Return the records of all jobs that have not ended.

        Args:
            labels: only jobs whose description has all these labels.
        """
        return active(self.ledger, labels_or_none(labels))
