"""Which job a launching thread gets next, and what happens to messages. No threads, no waiting."""

from __future__ import annotations

import pytest

from jaas_worker.lifecycle.job_table import JobTable
from jaas_worker.lifecycle.next_step import Claim
from jaas_worker.lifecycle.tracked_job import Phase, TrackedJob
from tests.support.step_world import StubDelivery


def take(table: JobTable, *job_ids: str) -> dict[str, StubDelivery]:
    deliveries = {job_id: StubDelivery(job_id) for job_id in job_ids}
    for delivery in deliveries.values():
        assert table.take(delivery) is None
    return deliveries


def next_job(table: JobTable) -> TrackedJob:
    item = table.next()
    assert item is not None
    return item[0]


def test_jobs_come_in_the_order_of_their_messages() -> None:
    table = JobTable(10)
    take(table, "a", "b")
    assert (next_job(table).job_id, next_job(table).job_id) == ("a", "b")
    assert table.stats() == {"waiting": 0, "starting": 2, "window": 8, "in_flight": 2}


@pytest.mark.parametrize(("in_flight", "starting", "expected"), [(2, 0, 2), (10, 1, 1), (10, 0, 3)])
def test_no_more_are_begun_with_than_there_is_room_for(in_flight: int, starting: int, expected: int) -> None:
    table = JobTable(in_flight, starting)
    take(table, "a", "b", "c")
    for _ in range(expected):
        next_job(table)
    table.put_first(TrackedJob("again", StubDelivery("again"), Phase.LAUNCHING), Claim())
    assert next_job(table).job_id == "again", "what is in flight already may always go on"
    assert table.stats()["waiting"] == 3 - expected


def test_a_start_that_is_over_makes_room() -> None:
    table = JobTable(10, 1)
    take(table, "a", "b")
    first = next_job(table)
    table.started(first, 0.0, ran=True)
    assert next_job(table).job_id == "b"
    assert table.stats()["starting"] == 1


def test_a_job_that_is_forgotten_makes_room() -> None:
    table = JobTable(1)
    take(table, "a", "b")
    first = next_job(table)
    table.forget(first)
    table.forget(first)
    assert next_job(table).job_id == "b"
    assert ("a" in table, table.stats()["in_flight"]) == (False, 1)


@pytest.mark.parametrize("accepted", [False, True])
def test_a_copy_of_a_message_takes_its_place(accepted: bool) -> None:
    table = JobTable(10)
    first = take(table, "a")["a"]
    next_job(table).accepted = accepted
    copy = StubDelivery("a")
    assert table.take(copy) is first
    assert copy.told == (["accepted"] if accepted else [])
    assert table.stats()["in_flight"] == 1


@pytest.mark.parametrize(
    ("first", "second", "told"), [("", "a chord", []), ("a chord", "", ["dropped"]), ("a", "b", [])]
)
def test_a_second_message_with_a_task_id_does_not_take_the_place_of_the_first(
    first: str, second: str, told: list[str]
) -> None:
    table = JobTable(10)
    one, two = StubDelivery("a"), StubDelivery("a")
    one.hangs, two.hangs = first, second
    assert table.take(one) is None
    assert table.take(two) is None
    assert next_job(table).delivery is one
    assert (one.told, two.told) == ([], told)


@pytest.mark.parametrize(("phase", "told"), [(Phase.FINISHING, []), (Phase.LAUNCHING, ["postponed"])])
def test_what_waits_for_the_end_of_a_job_with_its_task_id_comes_after_it(phase: Phase, told: list[str]) -> None:
    table = JobTable(10)
    one, two = StubDelivery("a"), StubDelivery("a")
    two.hangs = "a chord"
    table.take(one)
    job = next_job(table)
    table.take(two)
    job.phase = phase
    table.forget(job)
    assert two.told == told
    assert ("a" in table) == (not told)
    if not told:
        assert next_job(table).delivery is two


def test_what_has_ended_skips_the_queue_and_needs_no_place() -> None:
    table = JobTable(1, 1)
    take(table, "a", "b", "c")
    next_job(table)
    table.have_ended(["c", "later"])
    assert next_job(table).job_id == "c"
    take(table, "later")
    assert next_job(table).job_id == "later"
    assert table.stats()["starting"] == 1


def test_while_the_engine_is_away_new_jobs_go_back() -> None:
    table = JobTable(10)
    deliveries = take(table, "a", "b")
    begun = next_job(table)
    table.have_ended(["ended"])
    table.hold(True)
    late = StubDelivery("late")
    assert table.take(late) is None
    assert (deliveries["a"].told, deliveries["b"].told, late.told) == ([], ["returned"], ["returned"])
    assert begun.phase is Phase.LAUNCHING
    take(table, "ended")
    assert next_job(table).job_id == "ended", "its end needs no engine"
    table.hold(False)
    take(table, "b")
    assert next_job(table).job_id == "b"


def test_nothing_is_started_after_it_is_closed() -> None:
    table = JobTable(10)
    take(table, "a")
    table.close()
    assert table.next() is None


def test_only_the_service_of_the_present_attempt_is_followed() -> None:
    table = JobTable(10)
    take(table, "a")
    job = next_job(table)
    assert not table.follows("a", job.service_name)
    job.phase = Phase.TRACKED
    assert table.follows("a", job.service_name)
    assert not table.follows("a", "another")
    assert not table.follows("b", job.service_name)
