"""Traces are read, rules are changed, and a replay shows what follows."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from jaas_submit.cli.main import cli
from jaas_submit.errors import SpecError
from jaas_submit.queues.rules import GroupRules, QueueRules, Rules, TenantRules
from jaas_submit.simulation.changes import ModelNodes, changed_nodes, changed_rules, read_rules
from jaas_submit.simulation.replay import replay
from jaas_submit.simulation.trace import parse_trace

FOUR = ModelNodes(1, 4.0, 2**34)
SWF = (
    "; Computer: one\n\n1 0 5 60 2 -1 1024 2 90 -1 1 7 1 3 2 1 -1 -1\n2 10 -1 30 1 -1 -1 -1 -1 -1 1 -1 1 3 -1 1 -1 -1\n"
)


def line(**fields: Any) -> str:
    return json.dumps({"submit": 0, "run": 10, **fields})


def test_a_line_of_json_says_what_a_job_asks_for() -> None:
    (job,) = parse_trace(
        [
            line(
                id="a",
                submit=5,
                run="1m",
                start=7,
                cpus=0.5,
                memory="1G",
                queue="crawl",
                tenant="x",
                priority=9,
                groups={"db": 1},
                rate={"r": "1/s"},
                singleton="s",
                image="app",
                label="v",
                deadline="2m",
            )
        ]
    )
    assert (job.id, job.submit, job.run, job.start, job.deadline) == ("a", 5.0, 60.0, 7.0, 120.0)
    assert job.key[:3] == ("crawl", "x", 9)
    asked = job.key.demand
    assert (asked.cpus, asked.memory, asked.groups, asked.singleton, asked.kind) == (
        0.5,
        2**30,
        (("db", 1),),
        "s",
        "app v",
    )


def test_standard_workload_format() -> None:
    first, second = parse_trace(SWF.splitlines())
    assert (first.id, first.submit, first.run, first.start) == ("1", 0.0, 60.0, 5.0)
    assert first.key[:3] == ("queue2", "user7", 0)
    assert (first.key.demand.cpus, first.key.demand.memory, first.key.demand.kind) == (2.0, 2 * 2**20, "program3")
    assert (second.start, second.key.tenant, second.key.queue, second.key.demand.cpus) == (None, "", "queue0", 1.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no jobs"),
        ("{", "line 1: is no JSON"),
        ("1 2 3", "line 1: has 3 fields"),
        (" ".join(["x"] * 18), "line 1: has a field that is no number"),
        ('{"submit": 0}', "line 1: run: must be a number"),
        (line(run=float("nan")), "line 1: run: must be a number"),
        (line(nodes=3), "line 1: nodes: is no field"),
        (line(priority=256), "line 1: priority: must be"),
        (line(memory="much"), "line 1: memory: "),
        (line(queue=3), "line 1: queue: must be a text"),
        (line(groups=["db"]), "line 1: groups: must be an object"),
        (line(rate={"r": "fast"}), "line 1: rate: "),
        (f"{line(id='a')}\n{line(id='a')}", "two jobs have the same id"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=r"^trace[:,] ") as error:
        parse_trace(text.splitlines())
    assert says in str(error.value)


def test_rules_in_json_and_changes() -> None:
    before = read_rules(
        {"queues": {"a.b": {"priority": 3, "weight": 2}}, "groups": {"db": {"capacity": 2}}, "look_ahead": 1}
    )
    changes = [
        "queue.a.b.priority=7",
        "tenant.x.weight=2.5",
        "group.db.capacity=5",
        "half_life=60",
        "queue.q.paused=true",
    ]
    assert changed_rules(before, changes) == Rules(
        queues={"a.b": QueueRules(priority=7, weight=2), "q": QueueRules(paused=True)},
        tenants={"x": TenantRules(weight=2.5)},
        groups={"db": GroupRules(5)},
        look_ahead=1,
        half_life=60,
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("priority", "has no '='"),
        ("priority=1", "priority is no rule"),
        ("queue.crawl=1", "is no rule"),
        ("queue.crawl.colour=1", "has no field colour"),
        ("queue.crawl.priority=high", "priority: must be"),
        ("group.db.size=1", "has no field size"),
        ("queues=1", "is no rule"),
    ],
)
def test_a_bad_change_is_refused(change: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        changed_rules(Rules(), [change])


@pytest.mark.parametrize("said", [{"queue": {}}, {"queues": []}, {"groups": {"db": {}}}, {"queues": {"q": {"no": 1}}}])
def test_bad_rules_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        read_rules(said)


@pytest.mark.parametrize(("changes", "count"), [([], 1), (["+2"], 3), (["10", "-1"], 9)])
def test_nodes(changes: list[str], count: int) -> None:
    assert changed_nodes(FOUR, changes).count == count


@pytest.mark.parametrize("change", ["-1", "0", "two", "+", "1.5", "999999"])
def test_no_nodes(change: str) -> None:
    with pytest.raises(SpecError, match=r"^--nodes: "):
        changed_nodes(FOUR, [change])


def crawl_and_payroll() -> list[str]:
    crawl = [line(queue="crawl", tenant="web", cpus=1) for _ in range(40)]
    return [*crawl, *(line(queue="payroll", submit=1, cpus=1, deadline=25) for _ in range(4))]


def test_a_priority_brings_the_payroll_forward() -> None:
    jobs = parse_trace(crawl_and_payroll())
    before = replay(jobs, Rules(), FOUR).groups
    after = replay(jobs, changed_rules(Rules(), ["queue.payroll.priority=1"]), FOUR).groups
    # With the same priority each queue gets half of the room that is free after ten seconds.
    assert (before["queue payroll"].wait_max, before["queue payroll"].missed) == (19.0, 2)
    assert (after["queue payroll"].wait_max, after["queue payroll"].missed) == (9.0, 0)
    slow = replay(jobs, changed_rules(Rules(), ["queue.crawl.priority=1"]), FOUR).groups
    assert (slow["queue payroll"].wait_p50, slow["queue payroll"].missed) == (99.0, 4)
    assert slow["all"].jobs == slow["all"].started == 44


def test_more_nodes_shorten_the_waits_and_a_group_lengthens_them() -> None:
    jobs = parse_trace(line(groups={"db": 1}, cpus=1) for _ in range(8))
    ends = [
        replay(jobs, Rules(groups={"db": GroupRules(size)}), changed_nodes(FOUR, [count])).end
        for size, count in ((8, "1"), (8, "+1"), (1, "+1"))
    ]
    assert ends == [20.0, 10.0, 80.0]
    with pytest.raises(SpecError, match="how large db is"):
        replay(jobs, Rules(), FOUR)


def test_a_replay_of_what_a_replay_started_gives_the_same_waits() -> None:
    random = Random(3)
    made = [
        line(
            id=f"j{n}",
            submit=n * 0.5,
            run=random.uniform(1, 9),
            cpus=random.choice([0.5, 1, 2]),
            tenant=random.choice("ab"),
        )
        for n in range(300)
    ]
    first = replay(parse_trace(made), Rules(), FOUR)
    recorded = [
        json.dumps({**json.loads(text), "start": json.loads(text)["submit"] + first.waits[f"j{n}"]})
        for n, text in enumerate(made)
    ]
    again = replay(parse_trace(recorded), Rules(), FOUR).groups["all"]
    assert again.wait_p50 == pytest.approx(again.recorded_p50, rel=0.05)
    assert again.wait_p90 == pytest.approx(again.recorded_p90, rel=0.05)
    assert again.wait_p50


def test_the_command_shows_before_and_after(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(crawl_and_payroll()))
    args = ["simulate", str(trace), "--nodes", "1", "--nodes", "+1", "--set", "queue.crawl.priority=1"]
    shown = CliRunner().invoke(cli, args)
    assert shown.exit_code == 0, shown.output
    assert "queue payroll" in shown.output
    assert "before" in shown.output
    assert "after: the last job ends after" in shown.output
    found = json.loads(CliRunner().invoke(cli, [*args, "-o", "json"]).output)
    assert found["before"]["groups"]["queue payroll"]["missed"] == 2
    assert found["after"]["groups"]["queue payroll"]["missed"] == 4
    assert found["after"]["end"] < found["before"]["end"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--set", "nothing"], "has no '='"),
        (["--nodes", "none"], "--nodes: "),
        (["--memory", "much"], "--memory"),
        (["--rules", __file__], "one JSON object"),
    ],
)
def test_bad_options_end_with_2(args: list[str], says: str) -> None:
    shown = CliRunner().invoke(cli, ["simulate", "-", *args], input=line())
    assert shown.exit_code == 2, shown.output
    assert says in shown.output


def test_a_trace_in_the_workload_format_says_what_it_recorded() -> None:
    shown = CliRunner().invoke(cli, ["simulate", "-"], input=SWF)
    assert shown.exit_code == 0, shown.output
    assert "recorded" in shown.output
