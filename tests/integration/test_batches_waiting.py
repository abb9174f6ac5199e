"""Waiting for jobs and batches, with threads and with asyncio alike; the tests play the worker's part."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from jaas_submit import (
    Attempt,
    BatchFailed,
    BatchRecord,
    Cause,
    Client,
    JobCancelled,
    JobFailed,
    JobSpec,
    JobState,
    LedgerUnavailable,
    LogLine,
    Logs,
    UnknownJob,
    WaitTimeout,
)
from jaas_submit.client import wait
from jaas_submit.connection import connect
from jaas_submit.ledger import Ledger
from jaas_submit.model.ids import batch_job_id
from tests.support.ports import free_port
from tests.support.redis_server import OwnRedis
from tests.support.twins import TWINS, client_of

SPEC = JobSpec(image="a", command=["{item}"])
REDUCE = JobSpec(image="a", output="json")
HOLDER = "w"
LONG = 60.0
"""Seconds to wait for something that takes a moment: only a failure waits so long."""


@pytest.fixture(params=TWINS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(kind: str, redis_url: str, prefix: str, ledger: Ledger) -> Iterator[Client]:
    ledger.maintenance.renew_lease(HOLDER, 3600, {})
    with client_of(kind, redis_url, queue=prefix, prefix=prefix) as made:
        yield made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that wait."""
    with ThreadPoolExecutor(4) as made:
        yield made


def end(ledger: Ledger, job_id: str, state: JobState = JobState.SUCCEEDED, text: str = "") -> None:
    """Play the worker that runs a job to its end."""
    assert ledger.ownership.claim(job_id, HOLDER).action == "launch"
    assert ledger.ownership.move(job_id, HOLDER, JobState.PENDING)
    cause = Cause.CANCELLED if state is JobState.CANCELLED else Cause.EXIT
    code = int(state is not JobState.SUCCEEDED)
    last = Attempt(number=1, state=state, cause=cause, exit_code=code, container_id="c")
    assert ledger.ownership.finish(job_id, HOLDER, [last], Logs((LogLine("", "stdout", text.encode()),)))


# -- a job -----------------------------------------------------------------------------------------------------------


def test_waiting_for_a_job_gives_its_result(client: Client, ledger: Ledger, pool: ThreadPoolExecutor) -> None:
    handle = client.submit(SPEC)
    waiting = pool.submit(handle.wait, LONG)
    end(ledger, handle.id, text="hello")
    assert waiting.result(LONG).stdout == "hello"
    assert handle.wait(0) == client.wait(handle.id) == handle.result() == client.result(handle.id)


@pytest.mark.parametrize("wanted", [None, True])
def test_a_bad_end_raises_with_the_result(client: Client, ledger: Ledger, wanted: bool | None) -> None:
    handle = client.submit(SPEC)
    end(ledger, handle.id, JobState.FAILED, "the last words")
    with pytest.raises(JobFailed, match=r"exit code 1.*\nthe last words") as caught:
        handle.wait(LONG, check=wanted)
    assert (caught.value.exit_code, caught.value.result) == (1, handle.result())
    assert handle.wait(LONG, check=False).exit_code == 1


def test_the_description_says_whether_a_bad_end_raises(client: Client, ledger: Ledger) -> None:
    handle = client.submit(JobSpec(image="a", check=False))
    end(ledger, handle.id, JobState.FAILED)
    assert not handle.wait(LONG).ok
    with pytest.raises(JobFailed):
        handle.wait(LONG, check=True)


def test_a_job_that_was_cancelled(client: Client) -> None:
    handle = client.submit(SPEC)
    assert handle.cancel("enough") is JobState.QUEUED
    with pytest.raises(JobCancelled, match="enough"):
        handle.wait(LONG)


def test_following_a_job_tells_each_change_once(client: Client, ledger: Ledger) -> None:
    handle = client.submit(SPEC)
    changes = handle.follow(LONG)
    assert next(changes).state is JobState.QUEUED
    assert ledger.ownership.claim(handle.id, HOLDER).action == "launch"
    assert next(changes).state is JobState.LAUNCHING
    for detail in ("no suitable node", "preparing"):
        assert ledger.ownership.move(handle.id, HOLDER, JobState.PENDING, detail=detail)
        assert next(changes)[:2] == (JobState.PENDING, detail)
    last = Attempt(number=1, state=JobState.SUCCEEDED, cause=Cause.EXIT, exit_code=0)
    assert ledger.ownership.finish(handle.id, HOLDER, [last])
    assert [change.state for change in changes] == [JobState.SUCCEEDED]
    assert [change.state for change in handle.follow(0)] == [JobState.SUCCEEDED]


def test_the_time_for_a_job_is_over(client: Client) -> None:
    handle = client.submit(SPEC)
    for waiting in (lambda: handle.wait(0), lambda: list(handle.follow(0.05))):
        with pytest.raises(WaitTimeout, match=f"job {handle.id} is QUEUED after 0.*; it goes on"):
            waiting()


def test_a_job_that_is_not_known(client: Client) -> None:
    for waiting in (lambda: client.wait("nope"), lambda: list(client.handle("nope").follow())):
        with pytest.raises(UnknownJob):
            waiting()


# -- a batch ---------------------------------------------------------------------------------------------------------


def test_results_come_as_jobs_end_and_progress_is_told_meanwhile(
    client: Client, ledger: Ledger, pool: ThreadPoolExecutor
) -> None:
    batch = client.map(SPEC, range(3))
    begun = threading.Event()
    told: list[BatchRecord] = []

    def show(record: BatchRecord) -> None:
        told.append(record)
        begun.set()

    results = batch.results(timeout=LONG, progress=show)
    first = pool.submit(next, results)
    assert begun.wait(LONG)
    assert told[0].ended == 0
    for number, index in enumerate((2, 0, 1)):
        end(ledger, batch_job_id(batch.id, index))
        result = next(results) if number else first.result(LONG)
        assert result.index == index
    assert list(results) == []
    assert [result.index for result in batch.results(offset=1)] == [0, 1]


def test_ordered_results_wait_for_those_before_them(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(3))
    results = batch.results(ordered=True, timeout=LONG)
    end(ledger, batch_job_id(batch.id, 1))
    end(ledger, batch_job_id(batch.id, 0))
    assert [next(results).index, next(results).index] == [0, 1]
    end(ledger, batch_job_id(batch.id, 2))
    assert [result.index for result in results] == [2]


def test_ordered_results_behind_a_gap_come_at_the_end(client: Client, ledger: Ledger) -> None:
    """Redis has lost a job of the batch, with its end: no result of the others may be lost for that."""
    batch = client.map(SPEC, range(5))
    for index in (4, 0, 2, 1, 3):
        end(ledger, batch_job_id(batch.id, index))
    lost = batch_job_id(batch.id, 1)
    ledger.client.lrem(f"{ledger.prefix}:batch:{batch.id}:ended", 0, lost)
    assert [result.index for result in batch.results(ordered=True, timeout=LONG)] == [0, 2, 3, 4]


def test_waiting_for_a_batch_shows_how_it_stands_up_to_its_end(
    client: Client, ledger: Ledger, pool: ThreadPoolExecutor
) -> None:
    batch = client.map(SPEC, range(3), min_success=0.6)
    begun = threading.Event()
    told: list[BatchRecord] = []

    def show(record: BatchRecord) -> None:
        told.append(record)
        begun.set()

    waiting = pool.submit(batch.wait, LONG, progress=show)
    assert begun.wait(LONG)
    for index in range(3):
        end(ledger, batch_job_id(batch.id, index), JobState.FAILED if index == 1 else JobState.SUCCEEDED)
    assert waiting.result(LONG) == told[-1] == batch.status
    assert [record.ended for record in told] == sorted({record.ended for record in told})
    assert (told[0].ended, told[-1].ended, told[-1].state) == (0, 3, JobState.SUCCEEDED)


def test_a_batch_that_misses_its_quorum(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(2))
    end(ledger, batch_job_id(batch.id, 0))
    end(ledger, batch_job_id(batch.id, 1), JobState.FAILED)
    with pytest.raises(BatchFailed, match=r"1 of 2 jobs succeeded, 2 needed.*; 1 x exit code 1") as caught:
        batch.wait(LONG)
    assert caught.value.record == batch.wait(LONG, check=False) == batch.status


def test_a_progress_bar(client: Client, ledger: Ledger, capfd: pytest.CaptureFixture[str]) -> None:
    batch = client.map(SPEC, range(2), name="two")
    for index in range(2):
        end(ledger, batch_job_id(batch.id, index))
    assert batch.wait(LONG, progress=True).state is JobState.SUCCEEDED
    out, err = capfd.readouterr()
    assert out == ""
    assert "two" in err
    assert "2/2" in err


def test_waiting_for_a_map_reduce(client: Client, ledger: Ledger, pool: ThreadPoolExecutor) -> None:
    made = client.map_reduce(SPEC, range(3), REDUCE, fan_in=2)
    told: list[BatchRecord] = []
    waiting = pool.submit(made.wait, LONG, progress=told.append)
    for batch, size in ((made.maps, 3), (made.levels[0], 2), (made.levels[1], 1)):
        for index in range(size):
            end(ledger, batch_job_id(batch.id, index))
    assert waiting.result(LONG) == made.final.result()
    assert {record.id for record in told} == {made.maps.id}
    assert told[-1].done


def test_the_time_for_a_batch_is_over(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, range(2), REDUCE)
    batch = made.maps
    end(ledger, batch_job_id(batch.id, 0))
    waits: list[Callable[[], object]] = [
        lambda: batch.wait(0),
        lambda: made.wait(0),
        lambda: list(batch.results(timeout=0)),
    ]
    for waiting in waits:
        with pytest.raises(WaitTimeout, match=r"1 of 2 jobs ended.* after 0 s; it goes on"):
            waiting()


# -- a Redis that is away --------------------------------------------------------------------------------------------

WAITS: dict[str, Callable[[Client, str, str], Any]] = {
    "a job": lambda client, job_id, _: client.handle(job_id).wait(LONG).ok,
    "a job's changes": lambda client, job_id, _: (
        list(client.handle(job_id).follow(LONG))[-1].state.lower() == "succeeded"
    ),
    "a batch": lambda client, _, batch_id: client.batch(batch_id).wait(LONG).state == "SUCCEEDED",
    "results": lambda client, _, batch_id: len(list(client.batch(batch_id).results(timeout=LONG))) == 1,
    "results in order": lambda client, _, batch_id: (
        len(list(client.batch(batch_id).results(ordered=True, timeout=LONG))) == 1
    ),
}
"""Each way of waiting, for a batch of one job."""


@pytest.mark.parametrize("what", WAITS)
def test_waiting_outlasts_a_redis_that_is_killed_and_started_again(
    what: str, kind: str, own_redis: Callable[..., OwnRedis], pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, away = _signals(monkeypatch)
    server = own_redis(appendfsync="always")
    ledger = Ledger(connect(server.url))
    with client_of(kind, server.url) as client:
        batch = client.map(SPEC, [1])
        job_id = batch_job_id(batch.id, 0)
        waiting: Future[bool] = pool.submit(WAITS[what], client, job_id, batch.id)
        assert answered.wait(LONG)
        server.kill()
        assert away.wait(LONG)
        assert not waiting.done()
        server.start()
        ledger.maintenance.renew_lease(HOLDER, 3600, {})
        end(ledger, job_id)
        assert waiting.result(LONG)


def test_waiting_gives_up_on_a_redis_that_stays_away(
    kind: str, own_redis: Callable[..., OwnRedis], pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "REDIS_OUTAGE_TIMEOUT_S", 0.5)
    answered, _ = _signals(monkeypatch)
    server = own_redis()
    with client_of(kind, server.url) as client:
        waiting = pool.submit(client.map(SPEC, [1]).wait, LONG)
        assert answered.wait(LONG)
        server.kill()
        with pytest.raises(LedgerUnavailable):
            waiting.result(LONG)


def test_a_redis_that_never_answered_is_not_waited_for(kind: str) -> None:
    with client_of(kind, f"redis://127.0.0.1:{free_port()}/0") as client:
        for waiting in (
            lambda: client.wait("j"),
            lambda: client.batch("b").wait(),
            lambda: list(client.batch("b").results()),
        ):
            with pytest.raises(LedgerUnavailable):
                waiting()


def _signals(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Return what is set when whoever waits has had an answer, and when it was noticed that Redis is away."""
    answered, away = threading.Event(), threading.Event()
    over, retry_delay = wait.Outage.over, wait.Outage.retry_delay

    def note_over(outage: wait.Outage) -> None:
        over(outage)
        answered.set()

    def note_bear(outage: wait.Outage, error: LedgerUnavailable) -> float:
        pause = retry_delay(outage, error)
        away.set()
        return pause

    monkeypatch.setattr(wait.Outage, "over", note_over)
    monkeypatch.setattr(wait.Outage, "retry_delay", note_bear)
    return answered, away
