"""Room: what fits now, what is with the swarm ahead of time, and nodes that are kept for large jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jaas_submit.queues.admission import Admission, admit
from jaas_submit.queues.book import Book
from jaas_submit.queues.reasons import Code, Reason
from jaas_submit.queues.rules import QueueRules, Rules
from jaas_submit.queues.snapshot import InFlight, Line, LineKey, Reservation, Running, Snapshot, Waiting
from tests.support.sharing import demand, nodes, rules

NOW = 1000.0
BIG = LineKey("q", "t", 9, demand(cpus=4, kind="big"))
SHORT = LineKey("q", "t", 0, demand(cpus=1, kind="short"))
LONG = LineKey("q", "t", 0, demand(cpus=1, kind="long"))
TIMES = {"big": 500.0, "short": 50.0, "long": 5000.0}


def job_on_node(end: float, cpus: float = 3) -> Running:
    return Running(end, "r", LineKey("q", "t", 0, demand(cpus=cpus)), 0.0)


def scene(said: Rules, *others: LineKey, waited: float = 60, **more: Any) -> Snapshot:
    """A large job has waited for room; one node has a core free, and its other three until 1100."""
    blocked = Reason(Code.CAPACITY, since=NOW - waited)
    lines = [Line(BIG, [Waiting(0.0, "big")], 1, blocked)]
    lines += [Line(key, [Waiting(1.0, key.demand.kind)], 1) for key in others]
    fields: dict[str, Any] = {"running": {0: [job_on_node(1100.0)]}, "run_times": TIMES, **more}
    return Snapshot(said, lines, Book(), fields.pop("nodes", nodes(1, free=[1.0])), **fields)


@pytest.mark.parametrize(
    ("others", "waited", "admitted", "reasons"),
    [
        pytest.param([SHORT], 60, ["short"], {BIG: Code.CAPACITY}, id="one that ends before fills in"),
        pytest.param([LONG], 60, [], {BIG: Code.CAPACITY, LONG: Code.RESERVED}, id="one that would delay it waits"),
        pytest.param([LONG], 10, ["long"], {BIG: Code.CAPACITY}, id="nothing is kept at once"),
    ],
)
def test_backfill(others: list[LineKey], waited: float, admitted: list[str], reasons: dict[LineKey, Code]) -> None:
    found = admit(scene(rules(), *others, waited=waited), NOW)
    assert [one.job_id for one in found.admitted] == admitted
    assert {key: reason.code for key, reason in found.reasons.items()} == reasons
    kept = [Reservation("big", "n0", NOW, 1100.0)] if waited >= 30 else []
    assert list(found.reservations) == kept
    assert all(reason.subject == "big" for reason in found.reasons.values() if reason.code is Code.RESERVED)


def test_both_fit_once_the_large_one_has_its_room() -> None:
    found = admit(scene(rules(), LONG, nodes=nodes(1, cpus=6, free=[3.0])), NOW)
    assert [one.job_id for one in found.admitted] == ["long"], "two cores are left beside the large job"


def test_a_node_that_has_been_kept_for_long_takes_no_other_job() -> None:
    before = [Reservation("big", "n0", NOW - 600, 1100.0)]
    found = admit(scene(rules(), SHORT, reservations=before), NOW)
    assert found.admitted == ()
    assert found.reservations == (Reservation("big", "n0", NOW - 600, 1100.0),), "it stays, since it was made"


def test_nobody_fills_in_where_the_end_is_not_known() -> None:
    found = admit(scene(rules(), SHORT, running={0: [job_on_node(float("inf"))]}), NOW)
    assert found.admitted == ()


def test_a_reservation_is_made_where_room_is_first_and_stays_there() -> None:
    running = {0: [job_on_node(1500.0)], 1: [job_on_node(1200.0)]}
    two = nodes(2, free=[1.0, 1.0])
    first = admit(scene(rules(), nodes=two, running=running), NOW)
    assert first.reservations == (Reservation("big", "n1", NOW, 1200.0),)
    later = {**running, 0: [job_on_node(1050.0)]}
    again = admit(scene(rules(), nodes=two, running=later, reservations=first.reservations), NOW + 5)
    assert again.reservations == (Reservation("big", "n1", NOW, 1200.0),)


def test_who_starts_elsewhere_must_not_be_put_on_the_kept_node() -> None:
    two = nodes(2, free=[1.0, 1.0])
    found = admit(scene(rules(), LONG, nodes=two, running={0: [job_on_node(1100.0)]}), NOW)
    assert found.admitted == (Admission("long", LONG, found.admitted[0].rule, avoid=("n0",)),)


def test_nodes_that_are_left_out_are_avoided() -> None:
    some = replace(nodes(2), left_out=("n1",), classes={"any": [0]})
    found = admit(Snapshot(rules(), [Line(SHORT, [Waiting(0.0, "j")], 1)], Book(), some), NOW)
    assert found.admitted[0].avoid == ("n1",)


def test_no_more_nodes_are_kept_than_the_rules_say() -> None:
    found = admit(scene(replace(rules(), reservations=0), LONG), NOW)
    assert found.reservations == ()
    assert [one.job_id for one in found.admitted] == ["long"]


def test_the_swarm_sees_no_more_than_what_fits_and_the_look_ahead() -> None:
    said = rules(look_ahead=3)
    line = Line(SHORT, [Waiting(float(at), f"j{at:03}") for at in range(100)], 20_000)
    found = admit(Snapshot(said, [line], Book(), nodes(2, cpus=4)), NOW)
    assert [one.ahead for one in found.admitted] == [False] * 8 + [True] * 3
    assert not found.cut
    unplaced = [InFlight(one.job_id, SHORT, NOW) for one in found.admitted if one.ahead]
    rest = replace(line, jobs=line.jobs[11:])
    full = Snapshot(said, [rest], Book(), nodes(2, free=[0.0, 0.0]), unplaced=unplaced)
    assert admit(full, NOW + 1).admitted == (), "three are with the swarm already"
    one_free = replace(full, nodes=nodes(2, free=[1.0, 0.0]))
    assert [one.ahead for one in admit(one_free, NOW + 1).admitted] == [True], "the room is for the one that is there"


def test_a_large_job_that_is_with_the_swarm_has_its_node_kept() -> None:
    big = InFlight("big", BIG, NOW - 60)
    snapshot = replace(scene(rules(queues={"q": QueueRules()}), LONG), unplaced=[big])
    found = admit(replace(snapshot, lines=snapshot.lines[1:]), NOW)
    assert found.admitted == ()
    assert found.reservations == (Reservation("big", "n0", NOW, 1100.0),)
