"""PURE: why a job waits, or why it ended, in plain words."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from jaas_submit.records import JobRecord
from jaas_submit.spec import JobSpec
from jaas_submit.states import JobState

__all__ = ["Cluster", "Explanation", "Node", "NodeFit", "could_take", "explain", "placement"]


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


def could_take(spec: JobSpec, node: Node) -> bool:
    """Tell whether a node would take the job if nothing else ran there.

    Args:
        spec: the job's description.
        node: the node.
    """
    alone = node.model_copy(update={"free_cpus": node.cpus, "free_memory": node.memory})
    return _fit(spec, alone).fits


def _fit(spec: JobSpec, node: Node) -> NodeFit:
    reasons = []
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


def _ago(then: datetime, now: datetime) -> str:
    seconds = max((now - then).total_seconds(), 0)
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


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
    fits = placement(record.spec, cluster) if cluster and record.spec else ()
    said = _where_it_is(record, ahead, workers, now)
    if record.cancel and not record.terminal:
        said.append(f"It is to be cancelled: {record.cancel}.")
    said += _attempts(record)
    if record.state is JobState.PENDING and record.detail.startswith("no suitable node"):
        said += _nodes(fits)
    if record.terminal and not any(attempt.container_id or attempt.started_at for attempt in record.attempts):
        said.append("No container was seen to start.")
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
        nodes=() if record.terminal else fits,
    )


def _where_it_is(record: JobRecord, ahead: int, workers: int, now: datetime) -> list[str]:
    since = _ago(record.updated_at, now)
    said: list[str] = []
    match record.state:
        case JobState.QUEUED:
            said.append(f"It has been queued for {since}; {ahead} jobs were submitted earlier and wait too.")
            said.append(_who_takes_it(record, ahead, workers))
        case JobState.LAUNCHING:
            said.append(f"Worker {record.holder or '(none now)'} is creating its service, for {since} now.")
            if record.detail:
                said.append(f"So far: {record.detail}.")
        case JobState.PENDING:
            said.append(f"Its service exists; no container has run for {since}.")
            if record.detail:
                said.append(f"The swarm says: {record.detail}.")
        case JobState.RUNNING:
            started = record.started_at or record.updated_at
            said.append(f"Its container has run on {record.node or 'a node'} for {_ago(started, now)}.")
            if record.detail:
                said.append(f"Note: {record.detail}.")
        case JobState.BACKOFF:
            due = record.due_at or record.updated_at
            wait = (due - now).total_seconds()
            when = f"in {wait:.0f} seconds" if wait > 0 else "now"
            said.append(f"It waits for its next attempt, which is due {when} ({due:%Y-%m-%d %H:%M:%S} UTC).")
        case _:
            said.append(_how_it_ended(record))
    return said


def _who_takes_it(record: JobRecord, ahead: int, workers: int) -> str:
    if workers == 0:
        return "No worker is up: start one on a manager node (`jaas worker`, or the stack)."
    if ahead:
        return (
            f"{workers} workers take jobs in order; it is held by the limits JAAS_MAX_IN_FLIGHT and JAAS_MAX_STARTING."
        )
    return (
        f"{workers} workers are up and it is the next one in queue {record.queue!r}; see that one consumes that queue."
    )


def _how_it_ended(record: JobRecord) -> str:
    last = record.last
    if last is None:
        return f"It is {record.state}."
    if record.state is JobState.SUCCEEDED:
        return f"It succeeded on {last.node or 'a node'} with exit code 0."
    code = f", exit code {last.exit_code}" if last.exit_code is not None else ""
    where = f" on {last.node}" if last.node else ""
    verb = "was cancelled" if record.state is JobState.CANCELLED else "failed"
    return f"It {verb}{where}: cause {last.cause}{code}. {last.reason}".rstrip(". ") + "."


def _attempts(record: JobRecord) -> list[str]:
    said = []
    for attempt in record.attempts:
        if not attempt.number or (attempt is record.last and record.state is JobState.SUCCEEDED):
            continue
        code = f" with exit code {attempt.exit_code}" if attempt.exit_code is not None else ""
        where = f" on {attempt.node}" if attempt.node else ""
        decided = f"; decided: {attempt.decision}" if attempt.decision else ""
        said.append(f"Attempt {attempt.number} ended{where}{code} (cause {attempt.cause}: {attempt.reason}){decided}.")
    return said


def _nodes(fits: Sequence[NodeFit]) -> list[str]:
    if not fits:
        return []
    good = [fit.hostname for fit in fits if fit.fits]
    said = [f"By what the workers saw last it would fit on: {', '.join(good)}." if good else "It fits on no node now."]
    for fit in fits:
        free = f"{fit.free_cpus:g} cores and {_size(fit.free_memory)} free"
        said.append(f"  {fit.hostname}: {'fits' if fit.fits else '; '.join(fit.reasons)} ({free})")
    return said
