"""PURE: what happens after an attempt, and what the next attempt looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from jaas_submit.model.bounds import counted
from jaas_submit.model.causes import Cause, facts_of
from jaas_submit.model.cluster import Node
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt
from jaas_submit.model.retry_policy import MAX_ATTEMPTS, Backoff, RetryPolicy, RetryRule
from jaas_submit.model.states import JobState
from jaas_submit.placement.placement import avoided_nodes

__all__ = ["Decision", "backoff_delay", "decide", "next_memory", "spec_for_attempt"]

_MAX_MEMORY_BYTES: Final = 2**62
"""More bytes than any node has; the engine's numbers end at 2**63."""

_MAX_LOST_RETRIES: Final = 3
"""Cluster retries with on_node_lost=retry if the policy names none."""


class Decision(NamedTuple):
    """Whether there is another attempt, when, and why."""

    retry: bool
    delay: float
    """Seconds until it; 0 when there is none."""
    why: str
    """For people: the rule and the budget that decided."""


def _matches(rule: RetryRule, attempt: Attempt) -> bool:
    if rule.causes and attempt.cause not in rule.causes:
        return False
    if rule.exit_codes and not any(
        attempt.exit_code is not None and first <= attempt.exit_code <= last for first, last in rule.exit_codes
    ):
        return False
    return rule.reason is None or _found(rule.reason, attempt.reason)


def _found(pattern: str, reason: str) -> bool:
    """Tell whether the pieces between the pattern's asterisks are in the reason, in their order."""
    left = reason.lower()
    for piece in pattern.lower().split("*"):
        _, found, left = left.partition(piece) if piece else ("", "*", left)
        if not found:
            return False
    return True


def _rule_for(policy: RetryPolicy, attempt: Attempt) -> tuple[int, RetryRule] | None:
    return next(((n, rule) for n, rule in enumerate(policy.rules, 1) if _matches(rule, attempt)), None)


def _ignored(policy: RetryPolicy, attempt: Attempt) -> bool:
    found = _rule_for(policy, attempt)
    return found is not None and found[1].action == "ignore"


def backoff_delay(backoff: Backoff, retries: int, fraction: float) -> float:
    """Return the seconds to wait.

    Args:
        backoff: the policy.
        retries: how many retries there were before this one.
        fraction: a random number from 0 up to 1, for the jitter. Full jitter is AWS' "Exponential Backoff And Jitter"
            (Marc Brooker, 2015): a random part of the whole delay.
    """
    growth = backoff.factor ** min(retries, 64) if backoff.kind == "exponential" else 1.0
    delay = min(backoff.delay * growth, backoff.cap)
    return delay * fraction if backoff.jitter == "full" else delay


def decide(spec: JobSpec, attempts: Sequence[Attempt], fraction: float, left: float | None) -> Decision:
    """Return what happens after the last attempt.

    Args:
        spec: the description, with the retry policy.
        attempts: all attempts so far, the latest at the end.
        fraction: a random number from 0 up to 1.
        left: seconds until the job's deadline; None when it has none.
    """
    if attempts[-1].state is JobState.SUCCEEDED:
        return Decision(False, 0.0, "")
    granted, why = _granted(spec, attempts)
    if granted:
        delay = backoff_delay(spec.retry.backoff, len(attempts) - 1, fraction)
        if left is None or delay < left:
            return Decision(True, delay, why)
        why += "; but the deadline comes before the next attempt"
    return Decision(False, 0.0, why)


def _granted(spec: JobSpec, attempts: Sequence[Attempt]) -> tuple[bool, str]:
    """Return whether rules and budgets grant another attempt, and the reason."""
    policy, last = spec.retry, attempts[-1]
    if facts_of(last.cause).final:
        return False, f"never retried after cause {last.cause}"
    found = _rule_for(policy, last)
    by = f"rule {found[0]} ({found[1].action})" if found else "no retry rule"
    if found and found[1].action == "fail":
        return False, f"{by} matched"
    if len(attempts) >= MAX_ATTEMPTS:
        return False, f"{MAX_ATTEMPTS} attempts, which is the maximum"
    if found and found[1].action == "ignore":
        return True, f"{by} matched; not counted"
    used, budget, name = _budget(spec, attempts)
    kind = "further attempt" if name == "max_cluster_retries" else "attempt"
    return used < budget, f"{by} matched; {used} of {counted(budget, kind)} used ({name})"


def _budget(spec: JobSpec, attempts: Sequence[Attempt]) -> tuple[int, int, str]:
    """Return the used and total amount of the budget that the last attempt counts in, and its name."""
    policy = spec.retry
    taken = [attempt for attempt in attempts if not _ignored(policy, attempt)]
    of_cluster = sum(facts_of(attempt.cause).by_cluster for attempt in taken)
    if facts_of(attempts[-1].cause).by_cluster:
        budget = policy.max_cluster_retries
        if spec.on_node_lost == "retry" and attempts[-1].cause is Cause.NODE_LOST:
            budget = budget or _MAX_LOST_RETRIES
        return of_cluster - 1, budget, "max_cluster_retries"
    return len(taken) - of_cluster, policy.max_attempts, "max_attempts"


def next_memory(spec: JobSpec, attempts: Sequence[Attempt]) -> int | None:
    """Return the memory limit of the next attempt, in bytes; None when there is none.

    Args:
        spec: the description.
        attempts: the attempts so far; each that ran out of memory multiplies the limit.
    """
    limit, factor = spec.limits.memory, spec.retry.memory_factor
    if limit is None or factor is None:
        return limit
    cap = _MAX_MEMORY_BYTES if spec.retry.memory_cap is None else spec.retry.memory_cap
    grown = limit
    for attempt in attempts:
        if attempt.cause is Cause.OOM:
            grown = min(int(grown * factor), cap)
    return max(grown, limit)


def spec_for_attempt(
    spec: JobSpec, attempts: Sequence[Attempt], nodes: Sequence[Node], platforms: Sequence[str] = ()
) -> JobSpec:
    """Return the description as it holds for the next attempt.

    Args:
        spec: the description as submitted.
        attempts: the attempts so far.
        nodes: the swarm's nodes (see ``avoided_nodes``).
        platforms: what the image runs on; empty where that is not known.
    """
    changes: dict[str, object] = {}
    memory = next_memory(spec, attempts)
    if memory != spec.limits.memory:
        changes["limits"] = spec.limits.model_copy(update={"memory": memory})
    if avoided := avoided_nodes(spec, attempts, nodes, platforms):
        changes["constraints"] = (*spec.constraints, *(f"node.id!={node}" for node in sorted(avoided)))
    return spec.model_copy(update=changes) if changes else spec
