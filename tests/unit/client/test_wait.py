"""The core of waiting, step by step, with neither Redis nor a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit import (
    Attempt,
    BatchFailed,
    BatchRecord,
    Cause,
    JobFailed,
    JobRecord,
    JobSpec,
    JobState,
    LedgerUnavailable,
    WaitTimeout,
)
from jaas_submit.client import wait
from jaas_submit.client.wait import Found, Listen, Outage, Read, Sleep, Steps, Subscribe
from jaas_submit.ledger import Ledger

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUEUED, RUNNING, SUCCEEDED, FAILED = JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED


class Clock:
    now = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("jaas_submit.client.wait.time.monotonic", lambda: made.now)
    return made


def record(job_id: str, state: JobState, **fields: Any) -> JobRecord:
    attempts = (Attempt(number=1, state=state, cause=Cause.EXIT, exit_code=int(state is FAILED)),)
    return JobRecord(
        id=job_id,
        state=state,
        queue="q",
        created_at=START,
        updated_at=START,
        attempts=attempts if state in {SUCCEEDED, FAILED} else (),
        **fields,
    )


class Books:
    """What a ledger would answer.

    Args:
        states: of the one job, one after the other.
        ends: which inputs of the one batch have ended, in that order.
        good: whether the batch comes to a good end.
    """

    changes_channel = "changes:"
    prefix = "p"

    def __init__(self, states: Sequence[JobState] = (), ends: Sequence[int] = (), good: bool = True) -> None:
        self.states: Iterator[JobState] = iter(states)
        self.ends = ends
        self.good = good

    @property
    def queries(self) -> Books:
        return self

    @property
    def queues(self) -> Books:
        return self

    def is_paused(self, _queue: str) -> bool:
        return False

    @property
    def batches(self) -> BookOfBatches:
        return BookOfBatches(self)

    def get(self, job_id: str) -> JobRecord:
        if job_id.isdigit():
            return record(job_id, SUCCEEDED, index=int(job_id))
        return record(job_id, next(self.states), spec=JobSpec(image="a"))

    def find(self, job_ids: Sequence[str]) -> list[JobRecord]:
        return [record(job_id, FAILED) for job_id in job_ids]

    def batch_order(self, batch_id: str) -> None:
        return None

    def batch_job_ids(self, batch_id: str, places: Sequence[int]) -> list[str]:
        return [str(place) for place in places]

    def logs(self, job_id: str, attempt: int) -> None:
        return None

    def workers(self) -> list[dict[str, object]]:
        return [{"holder": "w", "queue": "q"}]

    @property
    def ledger(self) -> Ledger:
        return cast("Ledger", self)


class BookOfBatches:
    """What its part for batches would answer."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def get(self, batch_id: str) -> BatchRecord:
        return BatchRecord(
            id=batch_id,
            created_at=START,
            total=len(self._books.ends),
            span=1,
            state=SUCCEEDED if self._books.good else FAILED,
        )

    def ended_jobs(self, batch_id: str, offset: int) -> list[str]:
        return [str(index) for index in self._books.ends[offset : offset + 3]]


BATCH = "0a3d6c1e-91ab-4a54-8a3c-1d3c1c7a2f01"


def play(steps: Steps[Any], fails: Callable[[int], bool] = lambda _: False) -> tuple[list[Any], list[Any]]:
    """Carry out steps; return them but for Read and Found, and what was found.

    Args:
        steps: what is carried out.
        fails: whether Redis does not answer at the step of that number, counted from 0.
    """
    taken, found, number = [], [], 0
    try:
        step = next(steps)
        while True:
            if isinstance(step, Found):
                found.append(step.value)
                step = steps.send(None)
                continue
            if not isinstance(step, Read):
                taken.append(step)
            number += 1
            try:
                if not isinstance(step, Sleep) and fails(number - 1):
                    raise LedgerUnavailable("gone")  # noqa: TRY301 # as a call would raise it
                answer = step.call() if isinstance(step, Read) else None
            except LedgerUnavailable as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration:
        return taken, found


def test_a_job_is_looked_at_after_each_notice() -> None:
    books = Books([QUEUED, QUEUED, RUNNING, SUCCEEDED])
    taken, found = play(wait.job_records(books.ledger, "j"))
    assert taken == [Subscribe("changes:j"), *[Listen(wait.POLL_INTERVAL_S)] * 3]
    assert [one.state for one in found] == [QUEUED, RUNNING, SUCCEEDED]


@pytest.mark.parametrize(("timeout", "listens"), [(None, 2.0), (5.0, 2.0), (0.25, 0.25)])
def test_how_long_a_notice_is_waited_for(timeout: float | None, listens: float) -> None:
    taken, _ = play(wait.job_records(Books([QUEUED, SUCCEEDED]).ledger, "j", timeout))
    assert taken[1] == Listen(listens)


@pytest.mark.parametrize("kind", ["job", "result", "batch", "results"])
def test_the_time_runs_from_the_first_step_on(clock: Clock, kind: str) -> None:
    ledger = Books([QUEUED, SUCCEEDED], ends=[0]).ledger
    kinds: dict[str, Callable[[], Steps[Any]]] = {
        "job": lambda: wait.job_records(ledger, "j", 1),
        "result": lambda: wait.job_result(ledger, "j", 1),
        "batch": lambda: wait.batch_records(ledger, [BATCH], 1),
        "results": lambda: wait.batch_results(ledger, BATCH, timeout=1),
    }
    steps = kinds[kind]()
    clock.now += 3600
    assert play(steps)[1]


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_a_job_is_looked_at_once_when_there_is_no_time(timeout: float) -> None:
    steps = wait.job_result(Books([QUEUED]).ledger, "j", timeout)
    with pytest.raises(WaitTimeout, match=f"job j is QUEUED after {timeout:g} s; it goes on"):
        play(steps)
    (result,) = play(wait.job_result(Books([SUCCEEDED]).ledger, "j", timeout))[1]
    assert result.ok


def test_a_bad_end_raises() -> None:
    with pytest.raises(JobFailed):
        play(wait.job_result(Books([RUNNING, FAILED]).ledger, "j"))
    with pytest.raises(BatchFailed, match="; 1 x exit code 1"):
        play(wait.batch_records(Books(good=False).ledger, [BATCH]))
    assert play(wait.job_result(Books([FAILED]).ledger, "j", check=False))[1][0].exit_code == 1
    assert play(wait.batch_records(Books(good=False).ledger, [BATCH], check=False))[1][0].done


@pytest.mark.parametrize("at", range(6))
def test_after_an_outage_it_subscribes_and_looks_again(at: int) -> None:
    """An outage at the first read is an error. At any later one it is waited out."""
    books = Books([QUEUED, QUEUED, RUNNING, RUNNING, SUCCEEDED])
    steps = wait.job_records(books.ledger, "j")
    if at < 2:
        with pytest.raises(LedgerUnavailable):
            play(steps, lambda number: number == at)
        return
    taken, found = play(steps, lambda number: number == at)
    again = taken.index(Sleep(1.0))
    assert taken[again + 1] == Subscribe("changes:j")
    assert [one.state for one in found] == [QUEUED, RUNNING, SUCCEEDED]


@given(
    ends=st.permutations(range(8)).flatmap(lambda order: st.integers(0, 8).map(lambda count: order[:count])),
    ordered=st.booleans(),
    outages=st.sets(st.integers(6, 60)),
)
def test_each_result_is_found_once_whatever_fails(ends: list[int], ordered: bool, outages: set[int]) -> None:
    # Inputs that are not among the ends are gaps: Redis has lost those jobs.
    steps = wait.batch_results(Books(ends=ends).ledger, BATCH, ordered=ordered)
    if len(ends) < 2:
        outages = set()  # so few steps that Redis may not have answered yet
    found = [result.index for result in play(steps, outages.__contains__)[1]]
    assert found == (sorted(ends) if ordered else ends)


def test_what_was_seen_before_is_passed_over() -> None:
    steps = wait.batch_results(Books(ends=[3, 1, 2, 0]).ledger, BATCH, offset=2)
    assert [result.index for result in play(steps)[1]] == [2, 0]


def test_several_batches_have_one_deadline_and_one_patience(clock: Clock) -> None:
    """An outage between two of them is no outage of a Redis that has never answered."""
    steps = wait.batch_records(Books().ledger, [BATCH, BATCH])
    taken, found = play(steps, lambda number: number == 2)
    assert [type(step) for step in taken] == [Subscribe, Subscribe, Sleep, Subscribe]
    assert len(found) == 2


def test_an_outage_is_borne_for_a_minute_from_its_first_error(clock: Clock) -> None:
    begins: list[float] = []
    outage = Outage(lambda: begins.append(clock.now))
    error = LedgerUnavailable("gone")
    with pytest.raises(LedgerUnavailable):
        outage.retry_delay(error)
    outage.over()
    clock.now += 3600  # whoever waits was busy with what was found
    begin = clock.now
    assert outage.retry_delay(error) == 1.0
    clock.now = begin + wait.REDIS_OUTAGE_TIMEOUT_S
    assert outage.retry_delay(error) == 1.0
    clock.now += 0.1
    with pytest.raises(LedgerUnavailable) as caught:
        outage.retry_delay(error)
    assert caught.value is error
    assert begins == [begin]
    outage.over()
    assert outage.retry_delay(error) == 1.0
    assert begins == [begin, clock.now]


def test_one_value_that_cannot_be_read_is_not_tried_for_ever(clock: Clock) -> None:
    """Redis answers all the rest: a key of the wrong type, say."""
    refused: list[float] = []

    class OddBooks(Books):
        def get(self, job_id: str) -> JobRecord:
            clock.now += 1
            if job_id == "1":
                refused.append(clock.now)
                raise LedgerUnavailable("WRONGTYPE")
            return super().get(job_id)

    with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
        play(wait.batch_results(OddBooks(ends=[0, 1, 2]).ledger, BATCH))
    assert refused[-1] - refused[0] == wait.REDIS_OUTAGE_TIMEOUT_S + 1


def test_output_that_cannot_be_read_is_not_tried_for_ever(clock: Clock) -> None:
    tried: list[float] = []

    class OddBooks(Books):
        def logs(self, job_id: str, attempt: int) -> None:
            clock.now += 1
            tried.append(clock.now)
            raise LedgerUnavailable("WRONGTYPE")

    with pytest.raises(LedgerUnavailable, match="WRONGTYPE"):
        play(wait.job_result(OddBooks([SUCCEEDED] * 100).ledger, "j"))
    assert tried[-1] - tried[0] == wait.REDIS_OUTAGE_TIMEOUT_S + 1


def test_an_outage_at_the_end_of_the_time_is_told_as_such(clock: Clock) -> None:
    steps = wait.job_records(Books([QUEUED]).ledger, "j", 10)

    def late(number: int) -> bool:
        clock.now += 4
        return number == 2

    with pytest.raises(LedgerUnavailable):
        play(steps, late)
