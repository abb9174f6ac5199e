"""Rules, rates, singletons and use: what users write, and what follows from it alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from jaas_submit.errors import SpecError
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.rates import Rate
from jaas_submit.queues.reasons import Code
from jaas_submit.queues.rules import GroupRules, QueueRules, Rules, TenantRules
from jaas_submit.queues.shares import Use
from jaas_submit.queues.singletons import OnConflict, SingletonStep, singleton_step


@pytest.mark.parametrize(
    ("make", "fields", "name"),
    [
        (QueueRules, {"priority": 256}, "priority"),
        (QueueRules, {"priority": True}, "priority"),
        (QueueRules, {"weight": 0}, "weight"),
        (QueueRules, {"weight": math.nan}, "weight"),
        (QueueRules, {"max_in_flight": -1}, "max_in_flight"),
        (QueueRules, {"age_after": math.inf}, "age_after"),
        (QueueRules, {"wait_limits": {"sleepy": 3}}, "wait_limits"),
        (QueueRules, {"wait_limits": {Code.CAPACITY: 0}}, "wait_limits"),
        (TenantRules, {"weight": "much"}, "weight"),
        (TenantRules, {"quota_cpus": -1}, "quota_cpus"),
        (TenantRules, {"quota_memory": -1}, "quota_memory"),
        (GroupRules, {"capacity": -1}, "capacity"),
        (Rules, {"half_life": 0}, "half_life"),
        (Rules, {"age_share": 1}, "age_share"),
        (Rules, {"look_ahead": None}, "look_ahead"),
        (Rules, {"jobs_per_node": 1.5}, "jobs_per_node"),
        (Rules, {"drain_after": -1}, "drain_after"),
        (Demand.of, {"groups": {"db": 0}}, "groups"),
        (Demand.of, {"groups": {f"g{n}": 1 for n in range(17)}}, "groups"),
        (Demand.of, {"rates": {"r": "fast"}}, "rate"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(make: Callable[..., Any], fields: dict[str, Any], name: str) -> None:
    with pytest.raises(SpecError, match=f"^{name}: ") as error:
        make(**fields)
    assert error.value.field == name


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1/s", Rate(1.0, 1)),
        ("10/s", Rate(0.1, 2)),
        ("100/s", Rate(0.01, 11)),
        ("100/min", Rate(0.6, 1)),
        ("0.5/h", Rate(7200.0, 1)),
        ("10/s,5", Rate(0.1, 5)),
    ],
)
def test_rate(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    "text", ["", "10", "10/", "/s", "-1/s", "0/s", "10/s,0", "10/week", "1e9/s", "10/s\n", "\u0661/s"]
)
def test_no_rate(text: str) -> None:
    with pytest.raises(SpecError, match=r"^rate: "):
        Rate.parse(text)


@pytest.mark.parametrize(("text", "seconds", "starts"), [("1/s", 100, 101), ("10/s", 100, 1002), ("10/s,20", 10, 120)])
def test_a_rate_allows_its_starts_and_its_burst(text: str, seconds: float, starts: int) -> None:
    rate, due, now, count = Rate.parse(text), 0.0, 1000.0, 0
    while now <= 1000 + seconds:
        if rate.allowed_at(due) <= now:
            due, count = rate.after_start(due, now), count + 1
        else:
            now = rate.allowed_at(due)
    assert count == pytest.approx(starts, abs=1)


def test_a_rate_keeps_nothing_of_a_pause_but_its_burst() -> None:
    rate = Rate.parse("1/s,3")
    due, at_once = rate.after_start(0.0, 1000.0), 0
    while rate.allowed_at(due) <= 5000.0:
        due, at_once = rate.after_start(due, 5000.0), at_once + 1
    assert at_once == 3


@pytest.mark.parametrize(
    ("on_conflict", "active", "waiting", "step"),
    [
        ("wait", "", [], SingletonStep(submit=True)),
        ("wait", "a", ["b"], SingletonStep(submit=True)),
        ("join", "", [], SingletonStep(submit=True)),
        ("join", "a", ["b"], SingletonStep(submit=False, give_back="a")),
        ("join", "", ["b", "c"], SingletonStep(submit=False, give_back="b")),
        ("replace", "", [], SingletonStep(submit=True)),
        ("replace", "a", ["b"], SingletonStep(submit=True, cancel=("a", "b"))),
        ("replace", "", ["b"], SingletonStep(submit=True, cancel=("b",))),
    ],
)
def test_singleton(on_conflict: OnConflict, active: str, waiting: list[str], step: SingletonStep) -> None:
    assert singleton_step(on_conflict, active, waiting) == step


def test_what_was_used_counts_half_after_the_half_life() -> None:
    use = Use(at=0.0)
    use.hold(2.0, 8.0, 0.0, 600.0)
    use.advance(100.0, 600.0)
    assert use.used_cpus == pytest.approx(200, rel=0.06), "100 seconds of two cores, hardly decayed"
    use.let_go(2.0, 8.0, 100.0, 600.0)
    before = use.used_cpus
    use.advance(700.0, 600.0)
    assert use.used_cpus == pytest.approx(before / 2)
    assert (use.jobs, use.cpus, use.memory) == (0, 0.0, 0.0)


def test_steps_of_any_length_give_the_same_use() -> None:
    one, many = Use(at=0.0), Use(at=0.0)
    for use in (one, many):
        use.hold(3.0, 1.0, 0.0, 60.0)
    one.advance(500.0, 60.0)
    for second in range(1, 501):
        many.advance(float(second), 60.0)
    assert one.used_cpus == pytest.approx(many.used_cpus)
    assert one.part(500.0, 60.0, 10.0, 10.0) == pytest.approx(many.part(500.0, 60.0, 10.0, 10.0))


def test_the_larger_part_of_cores_and_memory_counts_and_no_job_is_free() -> None:
    cpus, memory, nothing = Use(), Use(), Use()
    cpus.hold(2.0, 0.0, 0.0, 600.0)
    memory.hold(0.0, 50.0, 0.0, 600.0)
    nothing.hold(0.0, 0.0, 0.0, 600.0)
    parts = [use.part(0.0, 600.0, 10.0, 100.0) for use in (nothing, cpus, memory)]
    assert 0 < parts[0] < parts[1] < parts[2]
