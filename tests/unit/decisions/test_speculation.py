"""Which jobs are started a second time, and what the second one looks like."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jaas_submit import Attempt, BatchRecord, Cause, JobRecord, JobSpec, JobState, RetryPolicy, SpecError, Speculation
from jaas_submit.model.cluster import Cluster, Node
from jaas_submit.model.ids import copy_id_of
from jaas_worker.decisions.speculation import copy_spec, slow_jobs

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SUCCEEDED, FAILED, RUNNING = JobState.SUCCEEDED, JobState.FAILED, JobState.RUNNING
PLAN = Speculation(factor=2, after=0.75, least=10, most=0.1)


def batch(counts: dict[JobState, int], **fields: Any) -> BatchRecord:
    size = sum(counts.values())
    return BatchRecord(
        **{"id": "b", "created_at": NOW, "total": size, "size": size, "speculate": PLAN, "counts": counts, **fields}
    )


MOST_ENDED = {SUCCEEDED: 30, RUNNING: 10}
TENS = [8.0, 10.0, 12.0]
RUNS = {"a": 19.0, "b": 21.0, "c": 300.0, "d": 90.0, "e": 25.0, "f": 26.0}

CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("the slowest first, no more than a tenth of 40", {}, ["c", "d", "f", "e"]),
    ("copies that run already count", {"copies": 3}, ["c"]),
    ("as many as may be", {"copies": 4}, []),
    ("more copies than may be: the plan was another one", {"copies": 9}, []),
    ("one always may, however small the batch", {"counts": {SUCCEEDED: 3, RUNNING: 1}}, ["c"]),
    ("three quarters have not ended", {"counts": {SUCCEEDED: 29, RUNNING: 11}}, []),
    ("failed ones have ended too", {"counts": {SUCCEEDED: 2, FAILED: 28, RUNNING: 10}}, ["c", "d", "f", "e"]),
    ("no job has shown how long it takes", {"durations": []}, []),
    ("none is slow enough", {"running": {"a": 19.9}}, []),
    ("exactly the limit is not above it", {"running": {"a": 20.0}}, []),
    ("the least time counts where jobs are short", {"durations": [0.5], "running": {"a": 9.9, "b": 10.1}}, ["b"]),
    ("of the same age the id decides", {"running": {"z": 50.0, "y": 50.0}, "copies": 3}, ["y"]),
    ("some wait for max_parallel", {"counts": {**MOST_ENDED, JobState.WAITING: 1}}, []),
    ("some wait for a worker", {"counts": {**MOST_ENDED, JobState.QUEUED: 1}}, []),
    ("max_parallel leaves room for two", {"max_parallel": 12, "active": 10}, ["c", "d"]),
    ("max_parallel leaves no room", {"max_parallel": 10, "active": 10}, []),
    ("not asked for", {"speculate": None}, []),
    ("cancelled", {"cancelled": "enough"}, []),
    ("over", {"state": SUCCEEDED}, []),
    ("still being submitted", {"total": None}, []),
    ("nobody runs", {"running": {}}, []),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_which_are_slow(changes: dict[str, Any], expected: list[str]) -> None:
    given = {"counts": MOST_ENDED, "running": RUNS, "durations": TENS, "copies": 0, "active": 10, **changes}
    running, durations, copies, active = (given.pop(name) for name in ("running", "durations", "copies", "active"))
    assert slow_jobs(batch(**given), running, durations, copies, active) == expected


def node(name: str, **fields: Any) -> Node:
    plain = {"id": f"id-{name}", "hostname": name, "role": "worker", "state": "ready", "availability": "active"}
    return Node(**{**plain, "cpus": 2, "memory": 2**30, "free_cpus": 2, "free_memory": 2**30, **fields})


def record(**fields: Any) -> JobRecord:
    spec = JobSpec(**{"image": "a", "idempotent": True, **fields})
    return JobRecord(
        id="j", state=RUNNING, queue="q", spec=spec, created_at=NOW, updated_at=NOW, node="slow",
        attempts=(Attempt(number=1, state=FAILED, cause=Cause.EXIT),),
    )  # fmt: skip


def test_a_copy_is_tried_once_and_has_the_time_that_is_left() -> None:
    original = record(
        command=["x"], deadline=60, expires=30, retry=RetryPolicy(max_attempts=5), on_node_lost="retry", env={"A": "b"}
    )
    made = copy_spec(original, None, age=45)
    assert made is not None
    assert (made.retry, made.expires, made.deadline, made.on_node_lost) == (RetryPolicy(), None, 15, "fail")
    assert (made.image, made.command, made.env) == ("a", ("x",), {"A": "b"})
    assert JobSpec.parse(made.to_wire()) == made
    assert copy_spec(original, None, age=60) is None


@pytest.mark.parametrize(
    ("nodes", "constraints"),
    [
        ([node("slow"), node("other")], ("node.role==worker", "node.hostname!=slow")),
        ([node("slow")], ("node.role==worker",)),
        ([node("slow"), node("other", availability="drain")], ("node.role==worker",)),
        ([node("slow"), node("other", role="manager")], ("node.role==worker",)),
    ],
    ids=["another one fits", "no other", "the other one is drained", "the other one does not meet the constraints"],
)
def test_a_copy_goes_to_another_node_where_one_fits(nodes: list[Node], constraints: tuple[str, ...]) -> None:
    made = copy_spec(record(constraints=["node.role==worker"]), Cluster(nodes=nodes, at=NOW), 0)
    assert made is not None
    assert made.constraints == constraints


def test_what_is_not_declared_idempotent_is_never_copied() -> None:
    assert copy_spec(record(idempotent=False), None, 0) is None
    assert copy_spec(record().model_copy(update={"spec": None}), None, 0) is None


def test_a_job_has_one_copy() -> None:
    assert copy_id_of("a") == copy_id_of("a") != copy_id_of("b")


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (None, None),
        (False, None),
        (True, Speculation()),
        (3, Speculation(factor=3)),
        ({"least": "1m"}, Speculation(least=60)),
        (PLAN, PLAN),
    ],
)
def test_what_a_producer_may_ask_for(value: Any, made: Speculation | None) -> None:
    assert Speculation.of(value) == made


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1, "speculate.factor: must be more than 1"),
        ({"after": 2}, "speculate.after: must be 1 at most"),
        ({"least": "soon"}, "speculate.least: give seconds or a duration such as 60s or 1h30m"),
        ({"what": 2}, "speculate.what: is no field of it; there are factor, after, least, most"),
        ({"a\nb": 1}, "speculate.a\\nb: is no field of it; there are factor, after, least, most"),
        ({"": 1}, "speculate.'': is no field of it; there are factor, after, least, most"),
        ({"x" * 3000: 1}, f"speculate.{'x' * 57}...: is no field of it; there are factor, after, least, most"),
        ("x", "speculate.factor: must be a number"),
    ],
)
def test_what_it_may_not(value: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Speculation.of(value)
    assert str(caught.value) == message
