"""What happens after an attempt: rules, both budgets, the deadline, the backoff, and what the next attempt gets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.errors import SpecError
from jaas_submit.model.causes import CLUSTER_CAUSES, Cause
from jaas_submit.model.cluster import Node
from jaas_submit.model.fields import Resources
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt
from jaas_submit.model.retry_policy import MAX_ATTEMPTS, Backoff, RetryPolicy, RetryRule
from jaas_submit.model.states import JobState
from jaas_worker.decisions.retry import backoff_delay, decide, next_memory, spec_for_attempt
from jaas_worker.decisions.task_outcome import image_reason

NEVER_RETRIED = frozenset({Cause.CANCELLED, Cause.SKIPPED, Cause.REFUSED, Cause.DEADLINE, Cause.EXPIRED})
OWN_CAUSES = frozenset(Cause) - CLUSTER_CAUSES - NEVER_RETRIED
MIB = 2**20


def attempt(cause: Cause = Cause.EXIT, code: int | None = None, reason: str = "", node: str | None = "n1") -> Attempt:
    state = JobState.CANCELLED if cause is Cause.CANCELLED else JobState.FAILED
    return Attempt(number=1, state=state, cause=cause, exit_code=code, reason=reason, node_id=node)


def exit_(code: int, reason: str = "") -> Attempt:
    return attempt(Cause.EXIT, code, reason or f"task: non-zero exit ({code})")


def spec(retry: RetryPolicy | None = None, **fields: Any) -> JobSpec:
    return JobSpec(image="a", retry=retry or RetryPolicy(), **fields)


def policy(*rules: dict[str, Any], attempts: int = 1, cluster: int = 0, **fields: Any) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=attempts, max_cluster_retries=cluster, rules=[RetryRule(**rule) for rule in rules], **fields
    )


def granted(retry: RetryPolicy, *attempts: Attempt, **fields: Any) -> tuple[bool, str]:
    decision = decide(spec(retry, **fields), attempts, 0.5, None)
    assert decision.retry or decision.delay == 0
    return decision.retry, decision.why


# -- by default nothing runs twice ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", Cause)
def test_by_default_nothing_runs_twice(cause: Cause) -> None:
    assert not granted(RetryPolicy(), attempt(cause))[0]


def test_a_success_is_never_followed_by_anything() -> None:
    done = Attempt(number=1, state=JobState.SUCCEEDED, cause=Cause.EXIT, exit_code=0)
    eager = policy({"action": "ignore"}, attempts=9, cluster=9)
    assert decide(spec(eager), [done], 0.5, None) == (False, 0.0, "")


@pytest.mark.parametrize("cause", sorted(NEVER_RETRIED))
@pytest.mark.parametrize("action", ["retry", "ignore"])
def test_no_retry_rule_matches_what_a_person_decided(cause: Cause, action: str) -> None:
    eager = policy({"action": action}, {"action": action, "causes": [cause]}, attempts=9, cluster=9)
    assert granted(eager, attempt(cause)) == (False, f"never retried after cause {cause}")


# -- rules ------------------------------------------------------------------------------------------------------------

FAIL = {"action": "fail"}
A_75 = exit_(75)
NO_CODE = attempt(Cause.IMAGE, None, "No such image: x:1")

# The rule; an attempt; whether the rule matches.
MATCHES: list[tuple[dict[str, Any], Attempt, bool]] = [
    ({}, A_75, True),
    ({}, NO_CODE, True),
    # causes
    ({"causes": "exit"}, A_75, True),
    ({"causes": ["exit"]}, A_75, True),
    ({"causes": ["oom", "exit"]}, A_75, True),
    ({"causes": ["oom", "image"]}, A_75, False),
    ({"causes": [Cause.IMAGE]}, NO_CODE, True),
    ({"causes": []}, NO_CODE, True),
    # exit codes
    ({"exit_codes": 75}, A_75, True),
    ({"exit_codes": "75"}, A_75, True),
    ({"exit_codes": [75]}, A_75, True),
    ({"exit_codes": [74]}, A_75, False),
    ({"exit_codes": [1, 2, 75]}, A_75, True),
    ({"exit_codes": "64-78"}, A_75, True),
    ({"exit_codes": ["64-78"]}, exit_(64), True),
    ({"exit_codes": ["64-78"]}, exit_(78), True),
    ({"exit_codes": ["64-78"]}, exit_(63), False),
    ({"exit_codes": ["64-78"]}, exit_(79), False),
    ({"exit_codes": [[64, 78]]}, A_75, True),
    ({"exit_codes": [1, "3-5", 200]}, exit_(4), True),
    ({"exit_codes": [1, "3-5", 200]}, exit_(6), False),
    ({"exit_codes": "0-255"}, exit_(1), True),
    ({"exit_codes": "0-255"}, NO_CODE, False),  # without a code there is none to match
    ({"exit_codes": 0}, attempt(Cause.PREEMPTED, 0), True),
    ({"exit_codes": 0}, NO_CODE, False),
    ({"exit_codes": []}, NO_CODE, True),
    # the reason: a text found anywhere in it
    ({"reason": "No such image"}, NO_CODE, True),
    ({"reason": "no SUCH image"}, NO_CODE, True),
    ({"reason": "No such image: x:1"}, NO_CODE, True),
    ({"reason": "No such image: x:12"}, NO_CODE, False),
    ({"reason": "no*image: x:*"}, NO_CODE, True),
    ({"reason": "*such*"}, NO_CODE, True),
    ({"reason": "image*such"}, NO_CODE, False),
    ({"reason": "image*image"}, NO_CODE, False),
    ({"reason": "*"}, NO_CODE, True),
    ({"reason": "*"}, attempt(Cause.EXIT, 1, ""), True),
    ({"reason": "x"}, attempt(Cause.EXIT, 1, ""), False),
    ({"reason": "n.n-zero"}, A_75, False),  # no regular expression
    ({"reason": "exit (75)"}, A_75, True),
    # all that it names must match
    ({"causes": "exit", "exit_codes": 75, "reason": "non-zero"}, A_75, True),
    ({"causes": "oom", "exit_codes": 75, "reason": "non-zero"}, A_75, False),
    ({"causes": "exit", "exit_codes": 74, "reason": "non-zero"}, A_75, False),
    ({"causes": "exit", "exit_codes": 75, "reason": "no such"}, A_75, False),
    ({"causes": "oom", "exit_codes": 137}, attempt(Cause.OOM, 137), True),
    ({"causes": "oom", "exit_codes": 137}, exit_(137), False),
]


@pytest.mark.parametrize(("rule", "end", "matches"), MATCHES)
def test_a_rule_matches_where_all_that_it_names_does(rule: dict[str, Any], end: Attempt, matches: bool) -> None:
    stop = policy({"action": "fail", **rule}, attempts=2)
    said = "rule 1 (fail) matched" if matches else "no retry rule matched; 1 of 2 attempts used (max_attempts)"
    assert granted(stop, end) == (not matches, said)


def test_a_reason_full_of_near_misses_is_looked_at_in_no_time() -> None:
    """A job chooses its own words, and backtracking over these would take longer than the universe has existed."""
    stop = policy({"action": "fail", "reason": "a*" * 255 + "b"}, attempts=2)
    assert granted(stop, attempt(Cause.LAUNCH, 127, 'exec: "' + "a" * 100_000 + '": not found'))[0]


@pytest.mark.parametrize("cause", sorted(OWN_CAUSES | CLUSTER_CAUSES))
def test_each_cause_can_be_named(cause: Cause) -> None:
    stop = policy({"action": "fail", "causes": [cause]}, attempts=2, cluster=1)
    for other in OWN_CAUSES | CLUSTER_CAUSES:
        assert granted(stop, attempt(other))[0] == (other is not cause)


RETRY_75 = {"action": "retry", "exit_codes": 75}
IGNORE_75 = {"action": "ignore", "exit_codes": 75}
FAIL_75 = {"action": "fail", "exit_codes": 75}
OTHER = {"action": "fail", "exit_codes": 1}

# The rules, in order; whether exit code 75 is tried again with two attempts; which rule decided.
ORDER: list[tuple[list[dict[str, Any]], bool, str]] = [
    ([], True, "no retry rule matched; 1 of 2 attempts used (max_attempts)"),
    ([OTHER], True, "no retry rule matched; 1 of 2 attempts used (max_attempts)"),
    ([RETRY_75], True, "rule 1 (retry) matched; 1 of 2 attempts used (max_attempts)"),
    ([FAIL_75, RETRY_75], False, "rule 1 (fail) matched"),
    ([RETRY_75, FAIL_75], True, "rule 1 (retry) matched; 1 of 2 attempts used (max_attempts)"),
    ([IGNORE_75, FAIL_75], True, "rule 1 (ignore) matched; not counted"),
    ([OTHER, IGNORE_75, FAIL_75], True, "rule 2 (ignore) matched; not counted"),
    ([OTHER, FAIL, RETRY_75], False, "rule 2 (fail) matched"),
    ([OTHER, RETRY_75, FAIL], True, "rule 2 (retry) matched; 1 of 2 attempts used (max_attempts)"),
]


@pytest.mark.parametrize(("rules", "again", "why"), ORDER)
def test_the_first_rule_that_matches_decides(rules: list[dict[str, Any]], again: bool, why: str) -> None:
    assert granted(policy(*rules, attempts=2), A_75) == (again, why)


def test_a_rule_that_says_retry_gives_no_attempt_that_the_budget_does_not_hold() -> None:
    assert granted(policy(RETRY_75), A_75) == (False, "rule 1 (retry) matched; 1 of 1 attempt used (max_attempts)")
    assert granted(policy({"action": "retry"}, attempts=9), attempt(Cause.PREEMPTED)) == (
        False,
        "rule 1 (retry) matched; 0 of 0 further attempts used (max_cluster_retries)",
    )


# -- budgets ----------------------------------------------------------------------------------------------------------

LOST = attempt(Cause.NODE_LOST)
DRAINED = attempt(Cause.PREEMPTED)

# max_attempts, max_cluster_retries; the attempts so far; whether another follows; what is used.
BUDGETS: list[tuple[int, int, list[Attempt], bool, str]] = [
    (1, 0, [A_75], False, "1 of 1 attempt used (max_attempts)"),
    (2, 0, [A_75], True, "1 of 2 attempts used (max_attempts)"),
    (2, 0, [A_75, A_75], False, "2 of 2 attempts used (max_attempts)"),
    (3, 0, [A_75, A_75], True, "2 of 3 attempts used (max_attempts)"),
    # the cluster's faults have their own
    (9, 0, [LOST], False, "0 of 0 further attempts used (max_cluster_retries)"),
    (1, 1, [LOST], True, "0 of 1 further attempt used (max_cluster_retries)"),
    (1, 1, [LOST, LOST], False, "1 of 1 further attempt used (max_cluster_retries)"),
    (1, 2, [LOST, DRAINED], True, "1 of 2 further attempts used (max_cluster_retries)"),
    (1, 2, [LOST, DRAINED, LOST], False, "2 of 2 further attempts used (max_cluster_retries)"),
    # and neither takes from the other
    (1, 5, [LOST, A_75], False, "1 of 1 attempt used (max_attempts)"),
    (2, 5, [LOST, LOST, A_75], True, "1 of 2 attempts used (max_attempts)"),
    (2, 5, [A_75, LOST, LOST, A_75], False, "2 of 2 attempts used (max_attempts)"),
    (5, 1, [A_75, A_75, LOST], True, "0 of 1 further attempt used (max_cluster_retries)"),
    (5, 1, [LOST, A_75, A_75, LOST], False, "1 of 1 further attempt used (max_cluster_retries)"),
]


@pytest.mark.parametrize(("most", "cluster", "attempts", "again", "used"), BUDGETS)
def test_two_budgets(most: int, cluster: int, attempts: list[Attempt], again: bool, used: str) -> None:
    assert granted(policy(attempts=most, cluster=cluster), *attempts) == (again, f"no retry rule matched; {used}")


@pytest.mark.parametrize("cause", sorted(OWN_CAUSES))
def test_the_jobs_own_failures_use_its_own_budget_of_attempts(cause: Cause) -> None:
    assert granted(policy(attempts=2), attempt(cause))[0]
    assert not granted(policy(cluster=9), attempt(cause))[0]


@pytest.mark.parametrize("cause", sorted(CLUSTER_CAUSES))
def test_what_is_the_clusters_fault_takes_from_the_clusters(cause: Cause) -> None:
    assert granted(policy(cluster=1), attempt(cause))[0]
    assert not granted(policy(attempts=9), attempt(cause))[0]


def test_an_ignored_attempt_is_not_counted_when_later_ones_are() -> None:
    patient = policy(IGNORE_75, {"action": "ignore", "causes": "preempted"}, attempts=2, cluster=1)
    before = [A_75, DRAINED] * 20
    assert granted(patient, *before) == (True, "rule 2 (ignore) matched; not counted")
    assert granted(patient, *before, exit_(1)) == (True, "no retry rule matched; 1 of 2 attempts used (max_attempts)")
    assert granted(patient, exit_(1), *before, exit_(1)) == (
        False,
        "no retry rule matched; 2 of 2 attempts used (max_attempts)",
    )
    assert granted(patient, *before, LOST) == (
        True,
        "no retry rule matched; 0 of 1 further attempt used (max_cluster_retries)",
    )
    assert granted(patient, LOST, *before, LOST)[0] is False


@pytest.mark.parametrize("end", [A_75, DRAINED])
def test_nothing_is_attempted_more_often_than_anything_may_be(end: Attempt) -> None:
    endless = policy({"action": "ignore"}, attempts=MAX_ATTEMPTS, cluster=MAX_ATTEMPTS)
    assert granted(endless, *[end] * (MAX_ATTEMPTS - 1))[0]
    assert granted(endless, *[end] * MAX_ATTEMPTS) == (False, f"{MAX_ATTEMPTS} attempts, which is the maximum")


# -- a node that is lost ----------------------------------------------------------------------------------------------


def test_on_node_lost_retry_grants_three_where_the_policy_says_nothing() -> None:
    assert granted(RetryPolicy(), *[LOST] * 3, on_node_lost="retry") == (
        True,
        "no retry rule matched; 2 of 3 further attempts used (max_cluster_retries)",
    )
    assert granted(RetryPolicy(), *[LOST] * 4, on_node_lost="retry")[0] is False


def test_on_node_lost_retry_is_about_lost_nodes_alone() -> None:
    for cause in set(Cause) - {Cause.NODE_LOST}:
        assert granted(RetryPolicy(), attempt(cause), on_node_lost="retry")[0] is False


def test_on_node_lost_retry_obeys_rules_and_a_budget_that_is_given() -> None:
    assert granted(policy(cluster=1), LOST, LOST, on_node_lost="retry")[0] is False
    assert granted(policy(cluster=5), *[LOST] * 5, on_node_lost="retry")[0] is True
    assert granted(policy({"action": "fail", "causes": "node_lost"}), LOST, on_node_lost="retry")[0] is False


@pytest.mark.parametrize("choice", ["wait", "fail"])
def test_the_other_choices_grant_nothing(choice: str) -> None:
    assert granted(policy(attempts=9), LOST, on_node_lost=choice)[0] is False


# -- the deadline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "again"), [(None, True), (10.1, True), (10.0, False), (5.0, False), (0.0, False), (-3.0, False)]
)
def test_an_attempt_that_would_come_at_the_deadline_or_later_is_not_waited_for(left: float | None, again: bool) -> None:
    job = spec(policy(attempts=2, backoff=Backoff(kind="constant", delay=10, jitter="none")))
    decision = decide(job, [A_75], 0.5, left)
    assert (decision.retry, decision.delay) == (again, 10.0 if again else 0.0)
    assert decision.why.endswith(
        "1 of 2 attempts used (max_attempts)" if again else "; but the deadline comes before the next attempt"
    )


def test_a_deadline_gives_no_attempts() -> None:
    assert decide(spec(), [A_75], 0.5, 1000.0).retry is False


# -- the pause --------------------------------------------------------------------------------------------------------

# The backoff; the random number; the delays before the first, second, ... retry.
DELAYS: list[tuple[Backoff, float, list[float]]] = [
    (Backoff(kind="constant", delay=7, jitter="none"), 0.3, [7, 7, 7, 7]),
    (Backoff(kind="constant", delay=7, jitter="full"), 0.5, [3.5, 3.5, 3.5]),
    (Backoff(kind="constant", delay=7, cap=5, jitter="none"), 0.5, [5, 5]),
    (Backoff(delay=1, factor=2, cap=300, jitter="none"), 0.5, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
    (Backoff(delay=3, factor=1, jitter="none"), 0.5, [3, 3, 3]),
    (Backoff(delay=10, factor=10, cap=5000, jitter="none"), 0.5, [10, 100, 1000, 5000, 5000]),
    (Backoff(delay=1, factor=2, cap=4, jitter="full"), 0.25, [0.25, 0.5, 1, 1]),
    (Backoff(delay=8, factor=2, jitter="full"), 0.0, [0, 0]),
    (Backoff(delay=0, jitter="none"), 0.9, [0, 0]),
    (Backoff(delay=60, cap=0, jitter="none"), 0.9, [0, 0]),
]


@pytest.mark.parametrize(("backoff", "fraction", "delays"), DELAYS)
def test_the_pause_before_each_retry(backoff: Backoff, fraction: float, delays: list[float]) -> None:
    assert [backoff_delay(backoff, retries, fraction) for retries in range(len(delays))] == pytest.approx(delays)
    job = spec(policy(attempts=50, backoff=backoff))
    assert [decide(job, [A_75] * n, fraction, None).delay for n in range(1, len(delays) + 1)] == pytest.approx(delays)


BACKOFFS = st.builds(
    Backoff,
    kind=st.sampled_from(["constant", "exponential"]),
    delay=st.floats(0, 7 * 86400),
    factor=st.floats(1, 100),
    cap=st.floats(0, 7 * 86400),
    jitter=st.sampled_from(["full", "none"]),
)
FRACTIONS = st.floats(0, 1, exclude_max=True)


@given(BACKOFFS, st.integers(0, MAX_ATTEMPTS), FRACTIONS)
def test_no_pause_is_negative_or_beyond_the_cap(backoff: Backoff, retries: int, fraction: float) -> None:
    assert 0 <= backoff_delay(backoff, retries, fraction) <= backoff.cap


@given(BACKOFFS, st.integers(0, MAX_ATTEMPTS), FRACTIONS)
def test_pauses_never_get_shorter_and_jitter_only_shortens(backoff: Backoff, retries: int, fraction: float) -> None:
    assert backoff_delay(backoff, retries, fraction) <= backoff_delay(backoff, retries + 1, fraction)
    plain = backoff.model_copy(update={"jitter": "none"})
    assert backoff_delay(backoff, retries, fraction) <= backoff_delay(plain, retries, fraction)


# -- whatever happens -------------------------------------------------------------------------------------------------

ENDS = st.builds(
    attempt,
    cause=st.sampled_from(Cause),
    code=st.none() | st.integers(0, 255),
    reason=st.sampled_from(["", "No such image: x", "task: non-zero exit (4)"]),
)
RULES = st.builds(
    RetryRule,
    action=st.sampled_from(["retry", "fail", "ignore"]),
    causes=st.lists(st.sampled_from(Cause), max_size=3),
    exit_codes=st.lists(st.integers(0, 255), max_size=3),
    reason=st.none() | st.sampled_from(["image", "non*exit", "*"]),
)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 5),
    max_cluster_retries=st.integers(0, 5),
    rules=st.lists(RULES, max_size=3),
    backoff=BACKOFFS,
)


@given(POLICIES, st.lists(ENDS, min_size=1, max_size=12), FRACTIONS, st.none() | st.floats(-10, 10**6))
def test_every_decision_keeps_within_budget_and_deadline_and_says_why(
    retry: RetryPolicy, attempts: list[Attempt], fraction: float, left: float | None
) -> None:
    decision = decide(spec(retry), attempts, fraction, left)
    assert decision.why
    if not decision.retry:
        assert decision.delay == 0
        return
    assert attempts[-1].cause not in NEVER_RETRIED
    assert left is None or decision.delay < left
    assert "ignore" in decision.why or len(attempts) < MAX_ATTEMPTS
    if not any(rule.action == "ignore" for rule in retry.rules):
        own = [end for end in attempts if end.cause not in CLUSTER_CAUSES]
        if attempts[-1].cause in CLUSTER_CAUSES:
            assert len(attempts) - len(own) <= retry.max_cluster_retries
        else:
            assert len(own) < retry.max_attempts


@given(POLICIES, st.lists(ENDS, min_size=1, max_size=40))
def test_without_ignore_no_history_is_longer_than_the_budgets_together(
    retry: RetryPolicy, attempts: list[Attempt]
) -> None:
    """Follow a job from its first attempt for as long as it is tried again."""
    if any(rule.action == "ignore" for rule in retry.rules):
        return
    ran = 1
    while ran < len(attempts) and decide(spec(retry), attempts[:ran], 0.5, None).retry:
        ran += 1
    assert ran <= retry.max_attempts + retry.max_cluster_retries


# -- what the next attempt gets ---------------------------------------------------------------------------------------

OOM = attempt(Cause.OOM, 137)


def grown(limit: int | None, retry: RetryPolicy, *attempts: Attempt) -> int | None:
    return next_memory(spec(retry, limits=Resources(memory=limit)), attempts)


# The limit, the factor and the cap, in MiB; the attempts so far; the next limit.
MEMORY: list[tuple[int | None, float | None, int | None, Sequence[Attempt], int | None]] = [
    (100, None, None, [OOM], 100),
    (None, 2, None, [OOM], None),
    (100, 2, None, [], 100),
    (100, 2, None, [A_75, LOST], 100),
    (100, 2, None, [OOM], 200),
    (100, 2, None, [OOM, OOM], 400),
    (100, 2, None, [OOM, A_75, OOM], 400),
    (100, 1.5, None, [OOM, OOM], 225),
    (100, 2, 300, [OOM], 200),
    (100, 2, 300, [OOM, OOM], 300),
    (100, 2, 300, [OOM] * 50, 300),
    (100, 2, 50, [OOM], 100),  # a cap does not take away what the job asked for
    (100, 16, None, [OOM] * 1000, 2**62 // MIB),  # no number that the engine cannot read
]


@pytest.mark.parametrize(("limit", "factor", "cap", "attempts", "expected"), MEMORY)
def test_memory_grows_with_each_attempt_that_had_too_little(
    limit: int | None, factor: float | None, cap: int | None, attempts: Sequence[Attempt], expected: int | None
) -> None:
    retry = RetryPolicy(memory_factor=factor, memory_cap=cap and cap * MIB)
    job = spec(retry, limits=Resources(memory=limit and limit * MIB, cpus=0.5))
    assert next_memory(job, attempts) == (expected and expected * MIB)
    following = spec_for_attempt(job, attempts, ())
    assert following.limits == Resources(memory=expected and expected * MIB, cpus=0.5)
    assert following.model_copy(update={"limits": job.limits}) == job


@given(
    st.integers(6 * MIB, 2**40),
    st.floats(1, 16, exclude_min=True),
    st.none() | st.integers(0, 2**60),
    st.integers(0, 999),
)
def test_memory_never_shrinks_and_never_grows_beyond_the_cap(
    limit: int, factor: float, cap: int | None, times: int
) -> None:
    retry = RetryPolicy(memory_factor=factor, memory_cap=cap)
    sizes = [grown(limit, retry, *[OOM] * count) or 0 for count in (times, times + 1)]
    assert limit <= sizes[0] <= sizes[1] < 2**63
    assert retry.memory_cap is None or sizes[1] <= max(retry.memory_cap, limit)


def node(name: str, **fields: Any) -> Node:
    free = {"cpus": 4, "memory": 2**33, "free_cpus": 0, "free_memory": 0}  # busy now, which will pass
    return Node(id=name, hostname=f"host-of-{name}", **{**free, **fields})


ON_N1, ON_N2 = attempt(node="n1"), attempt(node="n2")
NOWHERE = attempt(node=None)

# The nodes; the attempts so far; the nodes that the next one avoids.
AVOIDED: list[tuple[list[Node], list[Attempt], list[str]]] = [
    ([node("n1"), node("n2"), node("n3")], [], []),
    ([node("n1"), node("n2"), node("n3")], [ON_N1], ["n1"]),
    ([node("n1"), node("n2"), node("n3")], [ON_N2, ON_N1, ON_N2], ["n1", "n2"]),
    ([node("n1"), node("n2"), node("n3")], [NOWHERE], []),
    # one that can take it must be left
    ([node("n1"), node("n2")], [ON_N1, ON_N2], []),
    ([node("n1")], [ON_N1], []),
    ([], [ON_N1], []),
    ([node("n1"), node("n2", availability="drain")], [ON_N1], []),
    ([node("n1"), node("n2", availability="pause")], [ON_N1], []),
    ([node("n1"), node("n2", state="down")], [ON_N1], []),
    ([node("n1"), node("n2", labels={"disk": "hdd"})], [ON_N1], []),
    ([node("n1"), node("n2", memory=2**20)], [ON_N1], []),
    ([node("n1"), node("n2", cpus=1)], [ON_N1], []),
    ([node("n1"), node("n2", state="down"), node("n3")], [ON_N1], ["n1"]),
]


@pytest.mark.parametrize(("nodes", "attempts", "avoided"), AVOIDED)
def test_failed_nodes_are_avoided_while_another_one_can_take_the_job(
    nodes: list[Node], attempts: list[Attempt], avoided: list[str]
) -> None:
    wanted = ("node.labels.disk!=hdd",)
    needs = Resources(cpus=2, memory=2**30)
    job = spec(RetryPolicy(avoid_failed_nodes=True), constraints=wanted, reservations=needs)
    following = spec_for_attempt(job, attempts, nodes)
    assert following.constraints == (*wanted, *(f"node.id!={name}" for name in avoided))
    assert following.model_copy(update={"constraints": wanted}) == job
    plain = spec(constraints=wanted, reservations=needs)
    assert spec_for_attempt(plain, attempts, nodes) is plain


def test_the_next_attempts_description_is_valid_and_the_first_ones_is_the_jobs_own() -> None:
    retry = RetryPolicy(avoid_failed_nodes=True, memory_factor=2)
    job = spec(retry, limits=Resources(memory=64 * MIB), reservations=Resources(memory=64 * MIB))
    assert spec_for_attempt(job, [], [node("n1"), node("n2")]) is job
    following = spec_for_attempt(job, [OOM], [node("n1"), node("n2")])
    assert JobSpec.parse(following.to_json()) == following
    assert (following.limits.memory, following.constraints) == (128 * MIB, ("node.id!=n1",))


# -- policies that are refused ----------------------------------------------------------------------------------------


def rules(**rule: Any) -> dict[str, Any]:
    return {"rules": [{"action": "retry", **rule}]}


# The policy; the field that the error names; words of the fix.
BAD: list[tuple[Any, str, str]] = [
    ("3", "retry", "must be an object"),
    ({"max_attempts": 0}, "retry.max_attempts", "must be 1 at least"),
    ({"max_attempts": MAX_ATTEMPTS + 1}, "retry.max_attempts", f"must be {MAX_ATTEMPTS} at most"),
    ({"max_attempts": "many"}, "retry.max_attempts", "must be a whole number"),
    ({"max_attempts": 1.5}, "retry.max_attempts", "whole number"),
    ({"max_cluster_retries": -1}, "retry.max_cluster_retries", "must be 0 at least"),
    ({"attempts": 3}, "retry.attempts", "check the spelling"),
    ({"rules": {"action": "fail"}}, "retry.rules", "must be a list"),
    ({"rules": ["fail"]}, "retry.rules.0", "must be an object"),
    ({"rules": [{}]}, "retry.rules.0.action", "is required"),
    ({"rules": [{"action": "fail"}] * 65}, "retry.rules", "at most 64"),
    (rules(action="again"), "retry.rules.0.action", "'retry', 'fail' or 'ignore'"),
    (rules(causes=["bad_luck"]), "retry.rules.0.causes.0", "'exit', 'oom', 'image'"),
    (rules(causes="EXIT"), "retry.rules.0.causes.0", "'exit'"),
    (rules(exit_codes="a few"), "retry.rules.0.exit_codes.0", "an exit code such as 4, or a range such as 64-78"),
    (rules(exit_codes=[True]), "retry.rules.0.exit_codes.0", "an exit code such as 4"),
    (rules(exit_codes=[-1]), "retry.rules.0.exit_codes.0", "an exit code such as 4"),
    (rules(exit_codes=["78-64"]), "retry.rules.0.exit_codes", "write the smaller exit code first"),
    (rules(exit_codes=["0-256"]), "retry.rules.0.exit_codes.0.1", "must be 255 at most"),
    (rules(exit_codes=list(range(65))), "retry.rules.0.exit_codes", "at most 64"),
    (rules(reason=""), "retry.rules.0.reason", "must not be empty"),
    (rules(reason=4), "retry.rules.0.reason", "must be a text"),
    (rules(reason="x" * 513), "retry.rules.0.reason", "at most 512"),
    (rules(code=4), "retry.rules.0.code", "check the spelling"),
    ({"backoff": 5}, "retry.backoff", "must be an object"),
    ({"backoff": {"kind": "linear"}}, "retry.backoff.kind", "'constant' or 'exponential'"),
    ({"backoff": {"delay": "soon"}}, "retry.backoff.delay", "a duration such as 60s"),
    ({"backoff": {"delay": -1}}, "retry.backoff.delay", "must not be negative"),
    ({"backoff": {"delay": "8d"}}, "retry.backoff.delay", "must be 604800 at most"),
    ({"backoff": {"cap": "forever"}}, "retry.backoff.cap", "a duration such as 60s"),
    ({"backoff": {"factor": 0.5}}, "retry.backoff.factor", "must be 1 at least"),
    ({"backoff": {"jitter": "some"}}, "retry.backoff.jitter", "'full' or 'none'"),
    ({"avoid_failed_nodes": "maybe"}, "retry.avoid_failed_nodes", "must be true or false"),
    ({"memory_factor": 1}, "retry.memory_factor", "must be more than 1"),
    ({"memory_factor": 17}, "retry.memory_factor", "must be 16 at most"),
    ({"memory_factor": 2, "memory_cap": "lots"}, "retry.memory_cap", "a size such as 512M"),
    ({"memory_cap": "4G"}, "retry.memory_cap", "set that too, such as 2"),
]


@pytest.mark.parametrize(("retry", "field", "fix"), BAD)
def test_a_bad_policy_is_refused_with_its_field_and_what_to_write(retry: Any, field: str, fix: str) -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec.parse({"image": "a", "retry": retry})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert fix in str(caught.value)


def test_a_policy_survives_the_wire() -> None:
    full = policy(
        {"action": "ignore", "causes": "preempted"},
        {"action": "retry", "exit_codes": [75, "64-70"], "reason": "task: *(75)"},
        attempts=4,
        cluster=2,
        backoff=Backoff(kind="constant", delay="1m30s", cap="1h", jitter="none"),
        avoid_failed_nodes=True,
        memory_factor=2,
        memory_cap="4G",
    )
    job = spec(full, on_node_lost="retry", lost_after="5m", limits=Resources(memory="1G"))
    assert JobSpec.parse(job.to_json()) == job
    assert JobSpec.parse(job.to_wire()) == job
    assert job.to_wire()["retry"]["rules"][1]["exit_codes"] == [[75, 75], [64, 70]]


@pytest.mark.parametrize(
    ("problem", "retried"),
    [
        ("asking the registry for a: Get https://r.example/v2/: dial tcp: i/o timeout", True),
        (
            "asking the registry for a: net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
            True,
        ),
        ("asking the registry for a: manifest unknown", False),
        ("", False),
    ],
)
def test_the_documented_rule_for_images_matches_what_a_registry_answers(problem: str, retried: bool) -> None:
    text = (Path(__file__).parents[3] / "docs" / "retries.md").read_text(encoding="utf-8")
    (rule,) = [json.loads(found) for found in re.findall(r'\{"action": "retry", "causes": \["image"\].*?\}', text)]
    rules = RetryPolicy.model_validate({"max_attempts": 2, "rules": [rule, {"action": "fail"}]})
    assert granted(rules, attempt(Cause.IMAGE, reason=image_reason("No such image: a", problem)))[0] is retried
