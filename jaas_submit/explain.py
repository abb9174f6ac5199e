"""PURE: why a job waits, or why it ended, in plain words."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from jaas_submit.records import Attempt, JobRecord
from jaas_submit.spec import JobSpec
from jaas_submit.states import Cause, JobState

__all__ = ["Cluster", "Explanation", "Node", "NodeFit", "avoided_nodes", "explain", "placement"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Node(_Model):
    """A node of the swarm, as a worker saw it last."""

    id: str
    hostname: str
    role: str = "worker"
    availability: str = "active"
    state: str = "ready"
    os: str = ""
    arch: str = ""
    address: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    engine_labels: dict[str, str] = Field(default_factory=dict)
    cpus: float = Field(0.0, description="cores in all")
    memory: int = Field(0, description="bytes in all")
    free_cpus: float = Field(0.0, description="cores that no running task has reserved")
    free_memory: int = Field(0, description="bytes that no running task has reserved")


class Cluster(_Model):
    """The swarm's nodes at one time."""

    at: datetime
    nodes: tuple[Node, ...] = ()


class NodeFit(_Model):
    """Whether a job fits on a node, and if not, why not."""

    hostname: str
    fits: bool
    reasons: tuple[str, ...] = ()
    free_cpus: float
    free_memory: int


class Explanation(_Model):
    """Why a job is where it is."""

    job_id: str
    state: JobState
    sentences: tuple[str, ...]
    ahead: int | None = Field(None, description="QUEUED jobs that were submitted earlier")
    next_attempt_at: datetime | None = None
    nodes: tuple[NodeFit, ...] = Field((), description="for a job that waits: which nodes would fit")

    def __str__(self) -> str:
        return "\n".join(self.sentences)


_CONSTRAINT: Final = re.compile(r"\s*([\w.-]+)\s*(==|!=)\s*(.*?)\s*\Z")


def _value(node: Node, key: str) -> str:
    """Return a node's value for a constraint's key; a label that is not set is empty, as in the swarm."""
    plain = {
        "node.id": node.id,
        "node.hostname": node.hostname,
        "node.role": node.role,
        "node.ip": node.address,
        "node.platform.os": node.os,
        "node.platform.arch": node.arch,
    }
    if key in plain:
        return plain[key]
    for prefix, labels in (("node.labels.", node.labels), ("engine.labels.", node.engine_labels)):
        if key.startswith(prefix):
            return labels.get(key.removeprefix(prefix), "")
    return ""


def _meets(node: Node, constraint: str) -> bool:
    """Tell whether a node meets a constraint. Source: moby/swarmkit, manager/constraint; tested against a real swarm.

    Case does not count, and there are no wildcards; ``node.ip`` also takes a subnet.
    """
    match = _CONSTRAINT.match(constraint)
    if not match:
        return False
    key, operator, wanted = match.groups()
    if key == "node.ip":
        try:
            equal = ipaddress.ip_address(node.address) in ipaddress.ip_network(wanted, strict=False)
        except ValueError:  # the swarm takes no malformed address for an answer, be it == or !=
            return False
    else:
        equal = _value(node, key).lower() == wanted.lower()
    return equal == (operator == "==")


def _unmet(node: Node, constraint: str) -> str:
    match = _CONSTRAINT.match(constraint)
    value = _value(node, match[1]) if match else ""
    return f"constraint {constraint} is not met ({f'it has {value}' if value else 'it has none'})"


def placement(spec: JobSpec, cluster: Cluster) -> tuple[NodeFit, ...]:
    """Return for each node whether the job would fit there.

    Args:
        spec: the job's description.
        cluster: the nodes.
    """
    return tuple(_fit(spec, node) for node in cluster.nodes)


def avoided_nodes(spec: JobSpec, attempts: Sequence[Attempt], nodes: Sequence[Node]) -> frozenset[str]:
    """Return the ids of the nodes that the next attempt keeps away from.

    Args:
        spec: the job's description; without ``avoid_failed_nodes`` there are none.
        attempts: the attempts so far.
        nodes: the swarm's nodes: one at least that could take the job must remain, else none is avoided.
    """
    if not spec.retry.avoid_failed_nodes:
        return frozenset()
    failed = frozenset(attempt.node_id for attempt in attempts if attempt.node_id)
    # What runs on a node now will not run there for ever.
    empty = [node.model_copy(update={"free_cpus": node.cpus, "free_memory": node.memory}) for node in nodes]
    return failed if any(node.id not in failed and _fit(spec, node).fits for node in empty) else frozenset()


def _fit(spec: JobSpec, node: Node, avoided: frozenset[str] = frozenset()) -> NodeFit:
    reasons = ["an attempt failed there, and avoid_failed_nodes is set"] if node.id in avoided else []
    if node.state != "ready":
        reasons.append(f"it is {node.state}")
    if node.availability != "active":
        reasons.append(f"its availability is {node.availability}")
    reasons += [_unmet(node, text) for text in spec.constraints if not _meets(node, text)]
    need = spec.reservations
    if need.memory and need.memory > node.free_memory:
        reasons.append(f"{_size(need.memory)} of memory reserved, {_size(node.free_memory)} free")
    if need.cpus and need.cpus > node.free_cpus + 1e-9:
        reasons.append(f"{need.cpus:g} cores reserved, {node.free_cpus:g} free")
    return NodeFit(
        hostname=node.hostname,
        fits=not reasons,
        reasons=tuple(reasons),
        free_cpus=node.free_cpus,
        free_memory=node.free_memory,
    )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _count(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _span(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return _count(round(seconds / length), unit)
    return _count(round(max(seconds, 0)), "second")


def _ago(then: datetime, now: datetime) -> str:
    return _span((now - then).total_seconds())


_KILLED: Final = 137
"""Exit code of a process that was killed with SIGKILL: by the kernel for its memory, or by somebody."""

_CAUSES: Final[dict[Cause, tuple[str, str]]] = {
    Cause.EXIT: ("its process ended by itself", ""),
    Cause.OOM: (
        "the kernel killed it for its memory",
        "raise limits.memory, or let it grow from attempt to attempt with retry.memory_factor",
    ),
    Cause.IMAGE: (
        "its image is missing or may not be pulled",
        "check the name, and that the nodes reach the registry; the worker's own login there is used (see registry)",
    ),
    Cause.UNSCHEDULABLE: ("no node could take it", "change constraints or reservations, or add a node"),
    Cause.LAUNCH: ("its container could not be started", "check command, mounts, networks, secrets and user"),
    Cause.NODE_LOST: ("its node went away", "set on_node_lost to retry if two containers at once do no harm"),
    Cause.PREEMPTED: ("the swarm took it off its node", "set retry.max_cluster_retries"),
    Cause.RUN_TIMEOUT: ("it ran for too long", "raise run_timeout"),
    Cause.PENDING_TIMEOUT: ("it did not start in time", "raise pending_timeout, or have the image on the nodes before"),
    Cause.DEADLINE: ("its deadline came", "raise deadline"),
    Cause.EXPIRED: ("it was not started in time", "raise expires, or see that enough workers are up"),
    Cause.CANCELLED: ("somebody cancelled it", ""),
    Cause.REMOVED_OUTSIDE: ("somebody else removed its service", "set retry.max_cluster_retries"),
    Cause.SKIPPED: ("what it had to come after ended otherwise than was asked for", ""),
    Cause.OUTPUT: ("what it printed is not the output that it declares", "see `jaas logs`"),
    Cause.REFUSED: ("its description is not valid, or a policy forbids it", "correct the description"),
    Cause.ENGINE: ("the engine failed", "set retry.max_cluster_retries; see the engine's own log"),
}
"""Each cause in plain words, and what helps against it."""

_NEWER: Final = ("for a cause that only a newer version of jaas knows", "upgrade jaas here")


def explain(
    record: JobRecord, cluster: Cluster | None, ahead: int, workers: int, now: datetime | None = None
) -> Explanation:
    """Return why a job is where it is.

    Args:
        record: the job's record.
        cluster: the swarm's nodes, where a worker has told them.
        ahead: QUEUED jobs that were submitted earlier.
        workers: live workers.
        now: the present time; None asks the clock.
    """
    now = now or datetime.now(UTC)
    fits: tuple[NodeFit, ...] = ()
    if cluster and record.spec and not record.terminal:
        avoided = avoided_nodes(record.spec, record.attempts, cluster.nodes)
        fits = tuple(_fit(record.spec, node, avoided) for node in cluster.nodes)
    said = _how_it_ended(record) if record.terminal else _where_it_is(record, ahead, workers, now)
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
    if record.replay_of:
        said.append(f"It is a replay of job {record.replay_of}.")
    return Explanation(
        job_id=record.id,
        state=record.state,
        sentences=tuple(said),
        ahead=ahead if record.state is JobState.QUEUED else None,
        next_attempt_at=record.due_at if record.state is JobState.BACKOFF else None,
        nodes=fits,
    )


def _clause(text: str) -> str:
    """Return a text that goes before a full stop of ours."""
    return text.strip().rstrip(".")


def _is_end(record: JobRecord, attempt: Attempt) -> bool:
    return record.terminal and attempt is record.last


def _where_it_is(record: JobRecord, ahead: int, workers: int, now: datetime) -> list[str]:
    since = _ago(record.updated_at, now)
    said: list[str] = []
    match record.state:
        case JobState.WAITING:
            said.append(f"For {since} it has waited for the jobs that it comes after, or for a place in its batch.")
        case JobState.QUEUED:
            others = f"{_count(ahead, 'job')} submitted earlier {'is' if ahead == 1 else 'are'} still in the queue"
            said.append(f"It has been queued for {since}; {others}.")
            said.append(_who_takes_it(record, ahead, workers))
        case JobState.LAUNCHING:
            said.append(f"Worker {record.holder or '(none now)'} is creating its service, for {since} now.")
        case JobState.PENDING:
            said.append(f"Its service exists; no container has run for {since}.")
        case JobState.RUNNING:
            started = record.started_at or record.updated_at
            said.append(f"Its container has run on {record.node or 'a node'} for {_ago(started, now)}.")
        case JobState.BACKOFF if record.due_at is None and record.copied_by:
            said.append(f"It has failed and waits for its second start, job {record.copied_by}, which may succeed.")
        case JobState.BACKOFF:
            due = record.due_at or record.updated_at
            wait = (due - now).total_seconds()
            when = f"in {_span(wait)}" if wait > 0 else "now"
            said.append(f"It waits for its next attempt, which is due {when} ({due:%Y-%m-%d %H:%M:%S} UTC).")
        case _:
            said.append(f"It has been {record.state} for {since}, a state that only a newer version of jaas knows.")
    # In BACKOFF it is what is said of the attempt, and of a job with a copy that it has one.
    if record.detail and record.state is not JobState.BACKOFF and not record.copied_by:
        said.append(f"What the swarm says: {_clause(record.detail)}.")
    return said


def _who_takes_it(record: JobRecord, ahead: int, workers: int) -> str:
    up = f"{_count(workers, 'worker')} {'is' if workers == 1 else 'are'} up"
    if workers == 0:
        return "No worker is up: start one on a manager node (`jaas worker`, or the stack)."
    if ahead:
        return f"{up} and taking jobs in order, as JAAS_MAX_IN_FLIGHT and JAAS_MAX_STARTING allow."
    return f"{up} and it is the next one in queue {record.queue!r}; see that one consumes that queue."


def _how_it_ended(record: JobRecord) -> list[str]:
    last = record.last
    if last is None:
        return [f"It is {record.state}."]
    where = f" on {last.node}" if last.node else ""
    if record.state is JobState.SUCCEEDED:
        return [f"It succeeded{where} with exit code 0."]
    verbs = {JobState.CANCELLED: "was cancelled", JobState.SKIPPED: "was skipped", JobState.FAILED: "failed"}
    verb = verbs.get(record.state, f"ended as {record.state}")
    words, advice = _CAUSES.get(last.cause, _NEWER)
    if last.cause is Cause.EXIT and last.exit_code == _KILLED:
        advice = (
            "137 is a SIGKILL; it may have run out of memory, which an engine does not always tell: raise limits.memory"
        )
    code = f", exit code {last.exit_code}" if last.exit_code is not None else ""
    said = [f"It {verb}{where}: {words} (cause {last.cause}{code}{'; ' + last.reason if last.reason else ''})."]
    if not any(attempt.container_id or attempt.started_at for attempt in record.attempts):
        said.append("No container was seen to start.")
    if last.decision:
        said.append(f"It is not tried again: {_clause(last.decision)}.")
    if advice:
        said.append(f"What may help: {advice}.")
    return said


def _attempt(attempt: Attempt) -> str:
    code = f" with exit code {attempt.exit_code}" if attempt.exit_code is not None else ""
    where = f" on {attempt.node}" if attempt.node else ""
    words, _ = _CAUSES.get(attempt.cause, _NEWER)
    why = f"{words} (cause {attempt.cause}{'; ' + attempt.reason if attempt.reason else ''})"
    decided = f" What followed was decided so: {_clause(attempt.decision)}." if attempt.decision else ""
    return f"Attempt {attempt.number} ended{where}{code}: {why}.{decided}"


def _limits(record: JobRecord, now: datetime) -> list[str]:
    """Return which of the job's own time limits will end it, and when."""
    spec = record.spec
    if spec is None or record.terminal:
        return []
    started = record.started_at or record.updated_at
    not_begun = {JobState.WAITING, JobState.QUEUED}
    limits = [
        ("expires", spec.expires, record.created_at, record.state in not_begun),
        ("pending_timeout", spec.pending_timeout, record.updated_at, record.state is JobState.PENDING),
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
    good = [fit.hostname for fit in fits if fit.fits]
    said = [f"By the nodes as they were {seen} ago, it fits on {', '.join(good) if good else 'none of them'}."]
    for fit in fits:
        free = f"{fit.free_cpus:g} cores and {_size(fit.free_memory)} free"
        said.append(f"  {fit.hostname}: {'fits' if fit.fits else '; '.join(fit.reasons)} ({free})")
    return said
