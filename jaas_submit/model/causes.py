"""PURE: why attempts end. One table has all facts about each cause; docs/state-machine.md and retries.md follow it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, NamedTuple

from jaas_submit.model.states import JobState

__all__ = ["CAUSES", "CLUSTER_CAUSES", "Cause", "CauseFacts", "ExitCode", "facts_of"]

ExitCode = Literal["program", "launch", "timeout", "none"]
"""The exit code of `jaas run` for such a job. ``program``: that of the container. ``launch``: the engine's, for
a program that could not be started (126, 127). ``timeout``: 124. ``none``: 125, as there is no exit code."""


class Cause(StrEnum):
    """Why an attempt ended."""

    EXIT = "exit"
    OOM = "oom"
    IMAGE = "image"
    UNSCHEDULABLE = "unschedulable"
    LAUNCH = "launch"
    NODE_LOST = "node_lost"
    PREEMPTED = "preempted"
    RUN_TIMEOUT = "run_timeout"
    PENDING_TIMEOUT = "pending_timeout"
    DEADLINE = "deadline"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REMOVED_OUTSIDE = "removed_outside"
    SKIPPED = "skipped"
    OUTPUT = "output"
    REFUSED = "refused"
    ENGINE = "engine"


class CauseFacts(NamedTuple):
    """What there is to know of a cause."""

    meaning: str
    """In plain words, after "the attempt ended: "."""
    remedy: str = ""
    """What may help against it; empty where nothing is wrong."""
    by_cluster: bool = False
    """Whether the cluster is at fault, not the job. Such attempts have a retry budget of their own."""
    final: bool = False
    """Whether the job ends with it, whatever its retry policy says."""
    exit_code: ExitCode = "none"
    own_code: bool = True
    """False: an exit code 0 that the swarm shows means nothing, since no process has ended with it."""
    state: JobState = JobState.FAILED
    """Of the job, unless another attempt follows, or the container ended well."""


CAUSES: Final[dict[Cause, CauseFacts]] = {
    Cause.EXIT: CauseFacts("its process ended by itself", exit_code="program"),
    # By what the engine says, or by exit code 137 under a memory limit.
    Cause.OOM: CauseFacts(
        "the kernel killed it for its memory",
        "raise limits.memory, or let it grow from attempt to attempt with retry.memory_factor",
        exit_code="program",
    ),
    Cause.IMAGE: CauseFacts(
        "its image is missing or may not be pulled",
        "check the name, and that the nodes reach the registry; the worker's own login there is used (see registry)",
    ),
    # Before pending_timeout was over.
    Cause.UNSCHEDULABLE: CauseFacts(
        "no node could take it", "change constraints or reservations, or add a node", exit_code="timeout"
    ),
    # Command not found, bad mount, unknown network.
    Cause.LAUNCH: CauseFacts(
        "its container could not be started",
        "check command, mounts, networks, secrets and user",
        exit_code="launch",
        own_code=False,
    ),
    Cause.NODE_LOST: CauseFacts(
        "its node went away",
        "raise retry.max_cluster_retries; set on_node_lost to retry if two containers at once do no harm",
        by_cluster=True,
        own_code=False,
    ),
    # Drain, or a constraint that changed.
    Cause.PREEMPTED: CauseFacts("its node had to give it up", "raise retry.max_cluster_retries", by_cluster=True),
    Cause.RUN_TIMEOUT: CauseFacts("it ran for too long", "raise run_timeout", exit_code="timeout"),
    Cause.PENDING_TIMEOUT: CauseFacts(
        "it did not start in time", "raise pending_timeout, or have the image on the nodes before", exit_code="timeout"
    ),
    Cause.DEADLINE: CauseFacts("its deadline came", "raise deadline", final=True, exit_code="timeout"),
    Cause.EXPIRED: CauseFacts(
        "it was not started in time",
        "raise expires, or see that enough workers are up",
        final=True,
        exit_code="timeout",
    ),
    Cause.CANCELLED: CauseFacts("somebody cancelled it", final=True, state=JobState.CANCELLED),
    Cause.REMOVED_OUTSIDE: CauseFacts(
        "somebody else removed its service", "raise retry.max_cluster_retries", by_cluster=True
    ),
    Cause.SKIPPED: CauseFacts(
        "what it had to come after ended otherwise than was asked for", final=True, state=JobState.SKIPPED
    ),
    # The container ended well.
    Cause.OUTPUT: CauseFacts("what it printed is not the output that it declares", "see `jaas logs`"),
    Cause.REFUSED: CauseFacts(
        "its description is not valid, or the workers' policy does not allow it",
        "correct the description, or have the policy allow it",
        final=True,
    ),
    Cause.ENGINE: CauseFacts(
        "the engine failed",
        "raise retry.max_cluster_retries; see the engine's own log",
        by_cluster=True,
        own_code=False,
    ),
}
"""All facts about each cause. What decides, explains or ends by a cause reads them here."""

CLUSTER_CAUSES: Final = frozenset(cause for cause, facts in CAUSES.items() if facts.by_cluster)
"""Causes that are no fault of the job; they have a separate retry budget."""

_NEWER: Final = CauseFacts("for a cause that only a newer version of jaas knows", "upgrade jaas here")


def facts_of(cause: Cause) -> CauseFacts:
    """Return what there is to know of a cause, also of one that only a newer version knows (``read_as``).

    Args:
        cause: as a record has it.
    """
    return CAUSES.get(cause, _NEWER)
