"""PURE: why a job waits, or why it ended, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from jaas_submit.explain.held_back import NOT_STARTED, HeldBack
from jaas_submit.explain.workers import Limit, WorkerLoad, takers
from jaas_submit.model.bounds import counted
from jaas_submit.model.causes import Cause, facts_of
from jaas_submit.model.cluster import Cluster
from jaas_submit.model.records import Attempt, BatchRecord, JobRecord
from jaas_submit.model.service_options.signals import SIGNALS
from jaas_submit.model.states import JobState
from jaas_submit.nodes.facts import NodeFacts
from jaas_submit.placement.placement import NodeFit, as_the_swarm_says, avoided_nodes, fit, size, what_is_lacking
from jaas_submit.placement.preparing import preparing_in

__all__ = ["Awaited", "ExplainContext", "Explanation", "explain"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Awaited(_Model):
    """A job or batch that another job comes after."""

    name: str = Field(description="``job ID`` or ``batch ID``")
    on: str = Field(description="success, failure or finish")
    state: str = Field(description="its state; empty: it has expired")
    ended: bool


class ExplainContext(_Model):
    """Facts that are not in a job's record: its queue, the workers, the nodes, and what it waits for."""

    cluster: Cluster | None = Field(None, description="the swarm's nodes, if a worker has reported them")
    facts: dict[str, NodeFacts] = Field(default_factory=dict, description="node id -> what its agent says of it")
    ahead: int = Field(0, description="QUEUED jobs of the same queue that were submitted earlier")
    workers: tuple[WorkerLoad, ...] = Field((), description="live workers")
    after: tuple[Awaited, ...] = Field((), description="of a WAITING job: what it comes after")
    batch: BatchRecord | None = None
    line: int | None = Field(None, description="jobs of its batch that wait before it, if it waits")
    held_back: HeldBack | None = None


class Explanation(_Model):
    """Why a job is in its state."""

    job_id: str
    state: JobState
    sentences: tuple[str, ...]
    ahead: int | None = Field(None, description="QUEUED jobs of the same queue that were submitted earlier")
    limit: Limit | None = Field(None, description="for a job that waits to be started: the limit that holds it")
    reason: str | None = Field(None, description="why it is not started, whoever has room: a code of docs/queues.md")
    workers: tuple[WorkerLoad, ...] = Field((), description="for a QUEUED job: the workers that take its queue")
    decision: str = Field("", description="which rule and budget decided what follows the last attempt")
    next_attempt_at: datetime | None = None
    nodes: tuple[NodeFit, ...] = Field((), description="for a job that has not ended: which nodes would fit")

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def _span(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return counted(round(seconds / length), unit)
    return counted(round(max(seconds, 0)), "second")


def _ago(then: datetime, now: datetime) -> str:
    return _span((now - then).total_seconds())


_BY_SIGNAL: Final = 128
"""Added to a signal's number to get the exit code of a process that it ended."""

_KILLED: Final = 137
"""Exit code of a process that was killed with SIGKILL: by the kernel because of its memory, or by another process."""


def explain(record: JobRecord, context: ExplainContext, now: datetime | None = None) -> Explanation:
    """Return why a job is in its state.

    Args:
        record: the job's record.
        context: what else is known (``explain_context``).
        now: the present time; None asks the clock.
    """
    now = now or datetime.now(UTC)
    cluster = context.cluster
    fits: tuple[NodeFit, ...] = ()
    if cluster and record.spec and not record.terminal:
        avoided = avoided_nodes(record.spec, record.attempts, cluster.nodes, record.platforms)
        spec, of, more = record.spec, context.facts, (avoided, record.platforms)
        fits = tuple(fit(spec, node, *more, of.get(node.id), record.image) for node in cluster.nodes)
        fits = as_the_swarm_says(fits, record.detail if record.state is JobState.PENDING else "")
    said = _how_it_ended(record) if record.terminal else _where_it_is(record, context, now)
    if record.cancel and not record.terminal:
        said.append(f"It is to be cancelled: {_clause(record.cancel)}.")
    said += [_attempt(attempt) for attempt in record.attempts if attempt.number and not _is_end(record, attempt)]
    if record.note:
        said.append(f"Note: {_clause(record.note)}.")
    if record.state is JobState.PENDING and record.detail.startswith("no suitable node") and cluster:
        said += _nodes(fits, _ago(cluster.at, now))
    said += _limits(record, now)
    if record.copied_by and not record.terminal:
        said.append(f"It runs for long, so it was started a second time, as job {record.copied_by}: the first wins.")
    if record.copy_of:
        said.append(f"It is the second start of job {record.copy_of}, which runs for long: the first good result wins.")
    if record.replayed_by:
        said.append(f"It was replayed as job {record.replayed_by}.")
    if record.left:
        said.append(f"It counts in its batch no more: {record.left}.")
    if record.replay_of:
        said.append(f"It is a replay of job {record.replay_of}.")
    queued = record.state is JobState.QUEUED
    held_back = context.held_back if record.state in NOT_STARTED else None
    return Explanation(
        job_id=record.id,
        state=record.state,
        sentences=tuple(said),
        ahead=context.ahead if queued else None,
        limit=_limit(record, context),
        reason=held_back.code if held_back else None,
        workers=_takers(record, context) if queued else (),
        decision=record.last.decision if record.last else "",
        next_attempt_at=record.due_at if record.state is JobState.BACKOFF else None,
        nodes=fits,
    )


_BY_NEARNESS: Final[tuple[Limit, ...]] = ("max_starting", "max_in_flight", "engine")
"""Limits of workers, the one that will pass first at the front."""


def _takers(record: JobRecord, context: ExplainContext) -> tuple[WorkerLoad, ...]:
    return takers(record.queue, context.workers)


def _limit(record: JobRecord, context: ExplainContext) -> Limit | None:
    """Return the limit that holds a job that has not been started."""
    if record.state is JobState.WAITING:
        if record.not_before:
            return "not_before"
        if any(not one.ended for one in context.after):
            return "after"
        return None if context.line is None else "max_parallel"
    if record.state is JobState.QUEUED:
        limits = [worker.limit for worker in _takers(record, context)]
        if limits and all(limits):
            return next(one for one in _BY_NEARNESS if one in limits)
    return None


def _clause(text: str) -> str:
    """Return a text without its final full stop."""
    return text.strip().rstrip(".")


def _is_end(record: JobRecord, attempt: Attempt) -> bool:
    return record.terminal and attempt is record.last


def _where_it_is(record: JobRecord, context: ExplainContext, now: datetime) -> list[str]:
    since = _ago(record.updated_at, now)
    said: list[str] = []
    if context.held_back and record.state in NOT_STARTED:
        said.append(context.held_back.sentence())
    match record.state:
        case JobState.WAITING:
            said += _what_it_waits_for(record, context, since, now)
        case JobState.QUEUED:
            ahead = context.ahead
            others = f"{counted(ahead, 'job')} submitted earlier {'is' if ahead == 1 else 'are'} still in the queue"
            said.append(f"It has been queued for {since}; {others}.")
            said += [] if context.held_back else _who_takes_it(record, context)
        case JobState.LAUNCHING:
            said += _launching(record, since, (now - record.updated_at).total_seconds())
        case JobState.PENDING:
            said.append(f"Its service exists; no container has run for {since}.")
        case JobState.RUNNING:
            started = record.started_at or record.updated_at
            said.append(f"Its container has run on {record.node or 'a node'} for {_ago(started, now)}.")
        case JobState.BACKOFF if record.due_at is None and record.copied_by:
            said.append(f"It has failed and waits for its second start, job {record.copied_by}, which may succeed.")
        case JobState.BACKOFF:
            when = _moment(record.due_at or record.updated_at, now)
            said.append(f"It waits for its next attempt, which is due {when}.")
            if not context.workers:
                said.append(_NO_WORKER)
        case _:
            said.append(f"It has been {record.state} for {since}, a state that only a newer version of jaas knows.")
    # In BACKOFF the detail is about the last attempt, or says that the job has a copy.
    if record.detail and record.state not in _DETAIL_TOLD and not record.copied_by:
        prepares = preparing_in(record.detail)
        said.append(
            f"Node {prepares.node} pulls its image or makes its container, for {_ago(prepares.since, now)} now."
            if prepares
            else f"What the swarm says: {_clause(record.detail)}."
        )
    if record.state in _HELD and record.holder not in {worker.holder for worker in context.workers}:
        said.append(
            "Its worker is gone. What is in the swarm goes on, and another worker takes the job over in moments."
            if context.workers
            else f"Its worker is gone; what is in the swarm goes on. {_NO_WORKER}"
        )
    return said


_DETAIL_TOLD: Final = frozenset({JobState.BACKOFF, JobState.LAUNCHING})
"""States in which the detail is part of another sentence."""
_HELD: Final = frozenset({JobState.LAUNCHING, JobState.PENDING, JobState.RUNNING})
_LONG_FOR_A_LAUNCH: Final = 30.0
_NO_WORKER: Final = "No worker is up: start one on a manager node (`jaas worker`, or the stack)."


def _launching(record: JobRecord, since: str, seconds: float) -> list[str]:
    said = [f"Worker {record.holder or '(none now)'} is creating its service, for {since} now."]
    if record.detail:
        said.append(f"That did not work yet and is tried again. The last answer: {_clause(record.detail)}.")
    elif seconds > _LONG_FOR_A_LAUNCH:
        said.append("That takes moments as a rule; the worker's log says more.")
    return said


def _moment(then: datetime, now: datetime) -> str:
    wait = (then - now).total_seconds()
    return f"{f'in {_span(wait)}' if wait > 0 else 'now'} ({then:%Y-%m-%d %H:%M:%S} UTC)"


def _what_it_waits_for(record: JobRecord, context: ExplainContext, since: str, now: datetime) -> list[str]:
    """Return what a WAITING job waits for: a time, the jobs that it comes after, or those before it in its batch."""
    time = [f"It is not started before its time: {_moment(record.not_before, now)}."] if record.not_before else []
    if time and not context.after:
        return time
    if context.line is not None and context.batch:
        most = context.batch.max_parallel
        return [
            f"For {since} it has waited for a place in batch {record.batch}, "
            f"which may have {counted(most, 'active job')} at once (max_parallel).",
            f"{counted(context.line, 'job')} of the batch {'is' if context.line == 1 else 'are'} before it.",
        ]
    if not context.after:
        return [f"For {since} it has waited for the jobs that it comes after, or for a place in its batch."]
    open_ = [one for one in context.after if not one.ended]
    said = [
        *time,
        f"For {since} it has waited for what it comes after: {len(open_)} of {len(context.after)} "
        f"{'has' if len(open_) == 1 else 'have'} not ended.",
    ]
    said += [f"  {one.name} is {one.state} ({_AWAITED.get(one.on, one.on)})" for one in open_[:_SHOWN]]
    if len(open_) > _SHOWN:
        said.append(f"  and {len(open_) - _SHOWN:,} more")
    return said


_AWAITED: Final = {"success": "it must succeed", "failure": "it must fail", "finish": "however it ends"}
_SHOWN: Final = 10
"""Number of jobs or workers that are listed."""


def _who_takes_it(record: JobRecord, context: ExplainContext) -> list[str]:
    takers = _takers(record, context)
    if not takers and context.workers:
        others = ", ".join(sorted({repr(worker.queue) for worker in context.workers}))
        up = f"{counted(len(context.workers), 'worker')} {'is' if len(context.workers) == 1 else 'are'} up"
        return [
            f"No worker takes queue {record.queue!r}; {up}, for {others}: start one with JAAS_QUEUE={record.queue}."
        ]
    if not takers:
        return [_NO_WORKER]
    up = f"{counted(len(takers), 'worker')} {'is' if len(takers) == 1 else 'are'} up"
    match _limit(record, context):
        case "engine":
            return [f"{up} and takes no new jobs: {_clause(takers[0].engine_unavailable)}."]
        case "max_in_flight":
            said = [f"{up}, with as many jobs in flight as JAAS_MAX_IN_FLIGHT allows; one that ends makes room."]
        case "max_starting":
            said = [f"{up}, starting as many containers at once as the launch window holds; one that runs makes room."]
        case _ if context.ahead:
            return [f"{up} and taking jobs in order."]
        case _:
            return [f"{up} and it is the next one in queue {record.queue!r}."]
    for worker in takers[:_SHOWN]:
        said.append(
            f"  {worker.node or worker.holder}: {worker.in_flight:,} of {worker.max_in_flight or 0:,} jobs in flight, "
            f"{worker.starting:,} of {worker.window or 0:,} starting"
        )
    if len(takers) > _SHOWN:
        said.append(f"  and {len(takers) - _SHOWN:,} more")
    return said


def _how_it_ended(record: JobRecord) -> list[str]:
    last = record.last
    if last is None:
        return [f"It is {record.state}."]
    where = f" on {last.node}" if last.node else ""
    if record.state is JobState.SUCCEEDED:
        return [f"It succeeded{where} with exit code 0."]
    verbs = {JobState.CANCELLED: "was cancelled", JobState.SKIPPED: "was skipped", JobState.FAILED: "failed"}
    verb = verbs.get(record.state, f"ended as {record.state}")
    words, advice = _in_words(last)
    code = f", exit code {last.exit_code}" if last.exit_code is not None else ""
    said = [f"It {verb}{where}: {words} (cause {last.cause}{code}{'; ' + last.reason if last.reason else ''})."]
    if not any(attempt.container_id or attempt.started_at for attempt in record.attempts):
        said.append("No container was seen to start.")
    if last.decision:
        said.append(f"It is not tried again: {_clause(last.decision)}.")
    if advice:
        said.append(f"What may help: {advice}.")
    return said


def _in_words(attempt: Attempt) -> tuple[str, str]:
    """Return why an attempt ended in plain words, and a remedy."""
    facts = facts_of(attempt.cause)
    words, advice = facts.meaning, facts.remedy
    if attempt.cause is Cause.OOM and not attempt.oom_killed:
        words = (
            "it was killed with SIGKILL under its memory limit, most likely for its memory, though no engine said so"
        )
    elif attempt.cause is Cause.EXIT and (name := SIGNALS.get((attempt.exit_code or 0) - _BY_SIGNAL)):
        words = f"its process was ended by SIG{name}, as its exit code says"
    if attempt.cause is Cause.EXIT and attempt.exit_code == _KILLED:
        advice = (
            "137 is a SIGKILL: somebody sent it, or the node ran out of memory, which an engine does not always tell; "
            "with limits.memory such an end counts as oom"
        )
    return words, advice


def _attempt(attempt: Attempt) -> str:
    code = f" with exit code {attempt.exit_code}" if attempt.exit_code is not None else ""
    where = f" on {attempt.node}" if attempt.node else ""
    why = f"{_in_words(attempt)[0]} (cause {attempt.cause}{'; ' + attempt.reason if attempt.reason else ''})"
    decided = f" What followed was decided so: {_clause(attempt.decision)}." if attempt.decision else ""
    return f"Attempt {attempt.number} ended{where}{code}: {why}.{decided}"


def _limits(record: JobRecord, now: datetime) -> list[str]:
    """Return which of the job's own time limits will end it, and when."""
    spec = record.spec
    if spec is None or record.terminal:
        return []
    started = record.started_at or record.updated_at
    limits = [
        ("expires", spec.expires, record.created_at, record.state in {JobState.WAITING, JobState.QUEUED}),
        (
            "pending_timeout",
            spec.pending_timeout,
            record.claimed_at or record.updated_at,
            record.state in {JobState.LAUNCHING, JobState.PENDING},
        ),
        ("run_timeout", spec.run_timeout, started, record.state is JobState.RUNNING),
        ("deadline", spec.deadline, record.created_at, True),
    ]
    said = []
    for name, limit, since, applies in limits:
        if limit is not None and applies:
            left = limit - (now - since).total_seconds()
            said.append(f"Its {name} ({_span(limit)}) {f'ends it in {_span(left)}' if left > 0 else 'is over'}.")
    if record.state is JobState.PENDING and not said:
        said.append("It waits without a limit: it has neither pending_timeout nor deadline.")
    return said


def _nodes(fits: Sequence[NodeFit], seen: str) -> list[str]:
    good = [node.hostname for node in fits if node.fits]
    where = ", ".join(good) if good else f"none of them: {what_is_lacking(fits)}"
    said = [f"By the nodes as they were {seen} ago, it fits on {where}."]
    for node in fits:
        generic = "".join(f", {count} {kind}" for kind, count in node.free_generic.items())
        free = f"{_cores(node.free_cpus)} and {size(node.free_memory)}{generic} free{node.told and ', ' + node.told}"
        said.append(f"  {node.hostname}: {'fits' if node.fits else '; '.join(node.reasons)} ({free})")
    return said


def _cores(count: float) -> str:
    return f"{count:g} core{'' if count == 1 else 's'}"
