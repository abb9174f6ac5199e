"""Batches and dependencies in the ledger, on a real Redis: the tests play the workers' part."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jaas_submit import Batch, BatchFailed, Client, JobSpec, JobState, SpecError, UnknownJob, WaitTimeout
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.ledger import ClaimAction, Created, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.ids import batch_job_id
from jaas_submit.model.records import Attempt
from jaas_worker.maintenance.cancelled_batches import CancelledBatches
from tests.support.twins import TWINS, client_of
from tests.support.wait import eventually

SPEC = JobSpec(image="a", command=["{item}"])
REDUCE = JobSpec(image="a", output="json")
HOLDER = "w"

WAITING, QUEUED, SUCCEEDED, FAILED = JobState.WAITING, JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED
CANCELLED, SKIPPED = JobState.CANCELLED, JobState.SKIPPED


@pytest.fixture(params=TWINS)
def client(request: pytest.FixtureRequest, redis_url: str, prefix: str, ledger: Ledger) -> Iterator[Client]:
    ledger.maintenance.renew_lease(HOLDER, 3600, {})
    with client_of(request.param, redis_url, queue=prefix, prefix=prefix) as made:
        yield made


def end(ledger: Ledger, job_id: str, state: JobState = SUCCEEDED, output: str | None = None) -> None:
    """Play the worker that runs a job to its end."""
    claim = ledger.ownership.claim(job_id, HOLDER)
    assert claim.action is ClaimAction.LAUNCH, (job_id, claim)
    if state is SUCCEEDED:
        assert ledger.ownership.move(job_id, HOLDER, JobState.PENDING)
    cause = Cause.CANCELLED if state is CANCELLED else Cause.EXIT
    attempt = Attempt(number=1, state=state, cause=cause, exit_code=int(state is not SUCCEEDED))
    assert ledger.ownership.finish(job_id, HOLDER, [attempt], None, output)


def queued(ledger: Ledger) -> list[str]:
    """Ids of the jobs that a worker may start now."""
    return ledger.queries.ids(QUEUED, 1_000_000)


def run_all(ledger: Ledger, fails: Iterable[str] = ()) -> list[str]:
    """Run whatever may be started until nothing is left; return the ids in the order of their start."""
    bad, started = set(fails), []
    while ids := queued(ledger):
        for job_id in reversed(ids):
            started.append(job_id)
            end(ledger, job_id, FAILED if job_id in bad else SUCCEEDED)
    return started


def add(ledger: Ledger, job_id: str, *after: str, on: str = "success") -> Created:
    return ledger.submission.create_many([NewJob(job_id, SPEC, "q", after=tuple((one, on) for one in after))])[0]


def states(ledger: Ledger, *job_ids: str) -> list[JobState]:
    return [record.state for record in ledger.queries.find(job_ids)]


# -- dependencies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "ends", "becomes"),
    [
        ("success", SUCCEEDED, QUEUED),
        ("success", FAILED, SKIPPED),
        ("success", CANCELLED, SKIPPED),
        ("failure", SUCCEEDED, SKIPPED),
        ("failure", FAILED, QUEUED),
        ("failure", CANCELLED, QUEUED),
        ("finish", SUCCEEDED, QUEUED),
        ("finish", FAILED, QUEUED),
        ("finish", CANCELLED, QUEUED),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["submitted before the end", "submitted after it"])
def test_a_job_comes_after_another(
    client: Client, ledger: Ledger, on: str, ends: JobState, becomes: JobState, late: bool
) -> None:
    ledger.submission.create("first", SPEC, "q")
    if not late:
        assert add(ledger, "second", "first", on=on).state is WAITING
        assert ledger.ownership.claim("second", HOLDER).action is ClaimAction.EARLY
    end(ledger, "first", ends)
    if late:
        assert add(ledger, "second", "first", on=on).state is becomes
    record = ledger.queries.get("second")
    assert record.state is becomes
    if becomes is SKIPPED:
        assert record.last is not None
        assert (record.last.state, record.last.cause, record.last.number) == (SKIPPED, Cause.SKIPPED, 0)
        assert record.last.reason == f"job first is {ends}"
        assert record.detail == record.last.reason
        # A worker has to tell Celery.
        assert "second" in ledger.maintenance.unowned(0)
        assert ledger.ownership.claim("second", HOLDER).action is ClaimAction.REPLAY
    else:
        end(ledger, "second")
    assert ledger.queries.counts()[WAITING] == 0
    assert not list(ledger.client.scan_iter(f"{ledger.prefix}:after:*"))


def test_a_job_comes_after_several_jobs_and_waits_for_the_last(client: Client, ledger: Ledger) -> None:
    names = ["a", "b", "c"]
    for name in names:
        ledger.submission.create(name, SPEC, "q")
    add(ledger, "last", *names)
    for name in names:
        assert ledger.queries.get("last").state is WAITING
        end(ledger, name)
    assert ledger.queries.get("last").state is QUEUED


def test_one_bad_end_among_several_is_enough(client: Client, ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        ledger.submission.create(name, SPEC, "q")
    add(ledger, "last", "a", "b", "c")
    end(ledger, "a")
    end(ledger, "b", FAILED)
    assert ledger.queries.get("last").state is SKIPPED
    end(ledger, "c")
    assert ledger.queries.get("last").state is SKIPPED
    assert "b is FAILED" in ledger.queries.get("last").detail


def test_what_may_start_is_announced(client: Client, ledger: Ledger) -> None:
    ledger.submission.create("first", SPEC, "q")
    add(ledger, "second", "first")
    with ledger.maintenance.available() as notices, ledger.queries.changes("second") as changes:
        end(ledger, "first")
        assert notices.next(10) == "second"
        assert '"QUEUED"' in (changes.next(10) or "")
    assert ledger.maintenance.due().ready
    assert ledger.maintenance.ready(0) == ["second"]
    assert ledger.maintenance.unowned(0) == []


def test_ids_that_are_not_known_are_refused(client: Client, ledger: Ledger) -> None:
    with pytest.raises(UnknownJob, match="after: nope is not known"):
        add(ledger, "j", "nope")
    with pytest.raises(UnknownJob, match="after: batch nope is not known"):
        add(ledger, "j", "batch:nope")
    with pytest.raises(UnknownJob, match="after: j is not known"):
        add(ledger, "j", "j")  # a cycle would need an id that is not there yet
    assert ledger.queries.find(["j"]) == []
    with pytest.raises(UnknownJob):
        client.submit(SPEC, after=["nope"])
    with pytest.raises(SpecError, match="on: must be"):
        client.submit(SPEC, on="sometimes")  # type: ignore[arg-type] # what is tested
    with pytest.raises(SpecError, match="after: give a list"):
        client.submit(SPEC, after="j")


def test_a_chain_of_a_thousand_is_skipped_as_one(client: Client, ledger: Ledger) -> None:
    ledger.submission.create("0", SPEC, "q")
    for number in range(1, 1001):
        add(ledger, str(number), str(number - 1))
    add(ledger, "cleanup", "1000", on="finish")
    end(ledger, "0", FAILED)
    while ledger.maintenance.release_dependents():  # a worker's duty
        pass
    assert ledger.queries.counts() == {**dict.fromkeys(JobState, 0), FAILED: 1, SKIPPED: 1000, QUEUED: 1}
    assert ledger.queries.get("1").detail == "job 0 is FAILED"
    assert ledger.queries.get("cleanup").state is QUEUED
    # The reason names the job that it all began with, at every depth, and does not grow with it.
    assert ledger.queries.get("1000").detail == "job 999 was skipped: job 0 is FAILED"


def test_a_chain_of_a_thousand_runs_in_its_order(client: Client, ledger: Ledger) -> None:
    ledger.submission.create("0", SPEC, "q")
    for number in range(1, 1001):
        add(ledger, str(number), str(number - 1))
    assert run_all(ledger) == [str(number) for number in range(1001)]


def test_a_diamond(client: Client, ledger: Ledger) -> None:
    ledger.submission.create("top", SPEC, "q")
    for side in ("left", "right"):
        add(ledger, side, "top")
    add(ledger, "bottom", "left", "right")
    order = run_all(ledger)
    assert order[0] == "top"
    assert order[-1] == "bottom"
    assert len(order) == 4


def test_cancelling_a_job_that_waits(client: Client, ledger: Ledger) -> None:
    ledger.submission.create("first", SPEC, "q")
    add(ledger, "second", "first")
    add(ledger, "third", "second")
    assert client.cancel("second", "not today") is WAITING
    assert states(ledger, "second", "third") == [CANCELLED, SKIPPED]
    end(ledger, "first")
    assert states(ledger, "second", "third") == [CANCELLED, SKIPPED]


# -- batches ---------------------------------------------------------------------------------------------------------


def job_ids(batch: Batch, count: int) -> list[str]:
    return [batch_job_id(batch.id, index) for index in range(count)]


def test_a_batch_from_its_submission_to_its_end(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, (f"item {n}" for n in range(3)), name="three")
    status = batch.status
    assert (status.name, status.size, status.total, status.done) == ("three", 3, 3, False)
    assert status.counts == {QUEUED: 3}
    assert [record.index for record in batch.records()] == [0, 1, 2]
    assert [record.spec.command for record in batch.records() if record.spec] == [(f"item {n}",) for n in range(3)]
    with pytest.raises(WaitTimeout, match="0 of 3 jobs ended"):
        batch.wait(0)
    ids = job_ids(batch, 3)
    end(ledger, ids[1], output="1")
    end(ledger, ids[0], output='{"a": 1}')
    assert not batch.status.done
    end(ledger, ids[2])
    status = batch.wait(10)
    assert (status.state, status.reason) == (SUCCEEDED, "3 of 3 jobs succeeded, 3 needed")
    assert status.ended_at is not None
    assert [result.index for result in batch.results()] == [1, 0, 2]
    assert [result.output for result in batch.results(ordered=True)] == [{"a": 1}, 1, None]
    again = client.batch(batch.id)
    assert again.status == status
    assert again.job(2).id == ids[2]
    assert [record.id for record in client.batches()] == [batch.id]


@pytest.mark.parametrize(
    ("min_success", "good", "state"),
    [
        (1.0, 10, SUCCEEDED),
        (1.0, 9, FAILED),
        (0.95, 9, FAILED),
        (0.9, 9, SUCCEEDED),
        (0.85, 8, FAILED),
        (0, 0, SUCCEEDED),
    ],
)
def test_the_quorum(client: Client, ledger: Ledger, min_success: float, good: int, state: JobState) -> None:
    batch = client.map(SPEC, range(10), min_success=min_success)
    on_success = client.submit(SPEC, after=[batch])
    on_failure = client.submit(SPEC, after=[batch], on="failure")
    ids = job_ids(batch, 10)
    for number, job_id in enumerate(ids[:9]):
        end(ledger, job_id, SUCCEEDED if number < good else FAILED)
    # Whatever came out so far: none may be left.
    assert not batch.status.done
    assert on_success.state is WAITING
    end(ledger, ids[9], SUCCEEDED if good > 9 else FAILED)
    assert batch.status.state is state
    assert on_success.state is (QUEUED if state is SUCCEEDED else SKIPPED)
    assert on_failure.state is (QUEUED if state is FAILED else SKIPPED)
    if state is FAILED:
        with pytest.raises(BatchFailed, match=rf"{10 - good} x exit code 1"):
            batch.wait(10)
        assert batch.wait(10, check=False).state is FAILED


def test_a_batch_without_inputs_has_ended_well(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, [])
    after = client.submit(SPEC, after=[batch])
    assert batch.wait(0).reason == "0 of 0 jobs succeeded, 0 needed"
    assert (list(batch.results()), batch.failed) == ([], [])
    assert after.state is QUEUED


def test_no_more_than_max_parallel_are_active_in_the_order_of_the_inputs(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(7), max_parallel=2)
    ids = job_ids(batch, 7)
    order = []
    while ready := queued(ledger):
        assert len(ready) <= 2
        assert sum(not s.state.startswith("W") and not s.terminal for s in batch.records()) <= 2
        order.append(ready[-1])
        end(ledger, ready[-1])
    assert order == ids
    assert batch.wait(10).state is SUCCEEDED


def test_a_job_in_backoff_keeps_its_place(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(2), max_parallel=1)
    first, second = job_ids(batch, 2)
    assert ledger.ownership.claim(first, HOLDER).action is ClaimAction.LAUNCH
    bad = Attempt(number=1, state=FAILED, cause=Cause.EXIT, exit_code=1)
    assert ledger.ownership.back_off(first, HOLDER, [bad], None, 3600, "later") == (True, "")
    assert states(ledger, first, second) == [JobState.BACKOFF, WAITING]
    client.cancel(first)
    assert states(ledger, first, second) == [CANCELLED, QUEUED]


def test_max_parallel_is_never_exceeded_by_many_workers_at_once(client: Client, ledger: Ledger) -> None:
    """Twenty threads end jobs as fast as they can; a watcher inside Redis' own order sees every state."""
    total, most = 400, 7
    batch = client.map(SPEC, range(total), max_parallel=most)
    exceeded: list[int] = []
    ends: list[str] = []
    take = threading.Lock()
    taken: set[str] = set()

    def next_job() -> str | None:
        with take:
            job_id = next((one for one in queued(ledger) if one not in taken), None)
            if job_id:
                taken.add(job_id)
            return job_id

    def work(number: int) -> None:
        for turn in itertools.count():
            job_id = next_job()
            if job_id is None:
                if batch.status.done:
                    return
                continue
            active = batch.status.counts
            exceeded.append(sum(count for state, count in active.items() if state not in {WAITING, SUCCEEDED, FAILED}))
            end(ledger, job_id, FAILED if (turn + number) % 5 == 0 else SUCCEEDED)
            ends.append(job_id)

    with ledger.batches.changes(batch.id) as changes:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(work, range(20)))
        told: list[str] = []
        while (one := changes.next(0.5)) is not None:
            told.append(one)
    assert max(exceeded) <= most
    assert Counter(ends) == Counter(job_ids(batch, total))
    # Each end was told once, and the batch's own end once and last.
    assert Counter(told) == Counter([*job_ids(batch, total), "done"])
    assert told[-1] == "done"
    status = batch.status
    assert status.counts.keys() <= {SUCCEEDED, FAILED}
    assert sum(status.counts.values()) == total
    assert len(ledger.batches.ended_jobs(batch.id, 0, 10_000)) == total
    assert ledger.client.hget(f"{ledger.prefix}:batch:{batch.id}", "active") == b"0"
    assert not ledger.client.exists(f"{ledger.prefix}:batch:{batch.id}:waiting")


def test_twenty_ends_at_once_complete_a_batch_once(client: Client, ledger: Ledger) -> None:
    for _ in range(5):
        batch = client.map(SPEC, range(20))
        reduce = client.submit(SPEC, after=[batch])
        barrier = threading.Barrier(20)

        def finish(job_id: str, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(30)
            end(ledger, job_id)

        with ledger.queries.changes(reduce.id) as changes, ThreadPoolExecutor(20) as pool:
            list(pool.map(finish, job_ids(batch, 20)))
            assert '"QUEUED"' in (changes.next(10) or "")
            assert changes.next(0.1) is None
        end(ledger, reduce.id)


def test_after_each(client: Client, ledger: Ledger) -> None:
    first = client.map(SPEC, range(3))
    second = client.map(SPEC, range(3), after_each=first)
    third = client.map(SPEC, range(3), after_each=second.id, on="finish")
    a, b, c = (job_ids(batch, 3) for batch in (first, second, third))
    assert second.status.counts == third.status.counts == {WAITING: 3}
    end(ledger, a[1])
    assert states(ledger, *b) == [WAITING, QUEUED, WAITING]
    end(ledger, a[0], FAILED)
    assert states(ledger, *b) == [SKIPPED, QUEUED, WAITING]
    assert states(ledger, *c) == [QUEUED, WAITING, WAITING]
    end(ledger, a[2])
    run_all(ledger, fails=[b[2]])
    assert states(ledger, *c) == [SUCCEEDED] * 3
    assert (second.status.state, third.status.state) == (FAILED, SUCCEEDED)
    assert second.reasons() in {"1 x exit code 1, 1 x skipped", "1 x skipped, 1 x exit code 1"}


def test_after_each_of_a_shorter_batch_is_refused(client: Client, ledger: Ledger) -> None:
    first = client.map(SPEC, range(1))
    with pytest.raises(UnknownJob, match=batch_job_id(first.id, 1)):
        client.map(SPEC, range(2), after_each=first)


def test_max_parallel_counts_jobs_that_waited_for_others(client: Client, ledger: Ledger) -> None:
    gate = client.submit(SPEC)
    batch = client.map(SPEC, range(5), after=[gate], max_parallel=2)
    assert batch.status.counts == {WAITING: 5}
    end(ledger, gate.id)
    assert batch.status.counts == {WAITING: 3, QUEUED: 2}
    run_all(ledger)
    assert batch.status.state is SUCCEEDED


def test_a_batch_after_a_batch(client: Client, ledger: Ledger) -> None:
    first = client.map(SPEC, range(3), min_success=0.5)
    second = client.map(SPEC, range(2), after=[first])
    third = client.map(SPEC, range(2), after=[second], on="failure")
    run_all(ledger, fails=job_ids(first, 1))
    assert [batch.status.state for batch in (first, second, third)] == [SUCCEEDED, SUCCEEDED, FAILED]
    assert third.status.counts == {SKIPPED: 2}
    assert "batch " + second.id in third.failed[0].detail


# -- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_a_batch(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(6), max_parallel=2)
    reduce = client.submit(SPEC, after=[batch])
    ids = job_ids(batch, 6)
    end(ledger, ids[0])
    ledger.ownership.claim(ids[1], HOLDER)  # it has a holder, who has to stop it
    assert batch.cancel("enough") == 5
    assert states(ledger, *ids) == [SUCCEEDED, JobState.LAUNCHING, *[CANCELLED] * 4]
    assert ledger.ownership.cancel_reasons(ids[1:2]) == {ids[1]: "enough"}
    assert not batch.status.done
    ledger.ownership.finish(ids[1], HOLDER, [Attempt(number=1, state=CANCELLED, cause=Cause.CANCELLED)])
    status = batch.wait(10, check=False)
    assert (status.state, status.reason) == (CANCELLED, "enough")
    assert reduce.state is SKIPPED
    assert batch.cancel() == 0
    assert ledger.batches.cancelling() == []
    with pytest.raises(UnknownJob):
        client.batch("nope").cancel()


def test_a_cancelled_batch_takes_no_more_jobs_and_comes_to_its_end(client: Client, ledger: Ledger) -> None:
    """Cancelled by somebody else while it is being submitted."""
    made: list[str] = []

    def inputs() -> Iterator[int]:
        for number in range(2000):
            if number == 1200:
                (record,) = ledger.batches.recent()
                made.append(record.id)
                client.batch(record.id).cancel("enough")
            yield number

    with pytest.raises(SpecError, match="has been cancelled"):
        client.map(SPEC, inputs())
    batch = client.batch(made[0])
    assert batch.wait(10, check=False).state is CANCELLED
    assert batch.status.counts == {CANCELLED: 1000}
    assert queued(ledger) == []


def test_a_worker_goes_on_where_a_cancelling_client_died(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(3), max_parallel=1)
    assert ledger.batches.cancel(batch.id, "enough")
    assert batch.status.counts == {QUEUED: 1, WAITING: 2}
    CancelledBatches(ledger).run_once()
    assert batch.status.counts == {CANCELLED: 3}
    assert batch.status.state is CANCELLED
    assert ledger.batches.cancelling() == []


# -- resuming --------------------------------------------------------------------------------------------------------


class Crash(Exception):
    pass


def crashing(total: int, at: int) -> Iterator[int]:
    for number in range(total):
        if number == at:
            raise Crash
        yield number


def test_the_same_key_adds_only_what_is_missing(client: Client, ledger: Ledger) -> None:
    with pytest.raises(Crash):
        client.map(SPEC, crashing(1300, 1200), key="nightly", max_parallel=3)
    (record,) = ledger.batches.recent()
    # Whole chunks are there, and the batch cannot end yet.
    assert (record.size, record.total, record.done) == (1000, None, False)
    first = job_ids(client.batch(record.id), 1)[0]
    end(ledger, first)
    messages = ledger.client.llen(ledger.prefix)
    batch = client.map(SPEC, range(1300), key="nightly", max_parallel=3)
    assert batch.id == record.id
    assert (batch.status.size, batch.status.total) == (1300, 1300)
    assert ledger.queries.get(first).state is SUCCEEDED
    assert ledger.client.llen(ledger.prefix) == messages
    before = batch.status
    again = client.map(SPEC, range(1300), key="nightly")
    assert again.status == before
    assert client.map(SPEC, range(3), key="weekly").id != batch.id


def test_a_map_reduce_that_crashed_anywhere_is_completed_by_its_key(client: Client, ledger: Ledger) -> None:
    """The producer dies before each of its calls to Redis in turn, and makes the same call again."""
    own = (ledger.submission.create_many, ledger.batches.create, ledger.batches.close, ledger.batches.set_reduces)

    def use(*calls: Any) -> None:
        mine = client.ledger
        mine.submission.create_many, mine.batches.create, mine.batches.close, mine.batches.set_reduces = calls  # type: ignore[method-assign] # dies within

    def mortal(call: Any, left: Iterator[int]) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if next(left) == 0:
                raise Crash
            return call(*args, **kwargs)

        return wrapped

    for die_at in itertools.count():
        left = itertools.count(die_at, -1)
        use(*(mortal(call, left) for call in own))
        with contextlib.suppress(Crash):
            client.map_reduce(SPEC, range(10), REDUCE, fan_in=4, key=f"k{die_at}")
        use(*own)
        made = client.map_reduce(SPEC, range(10), REDUCE, fan_in=4, key=f"k{die_at}")
        assert [batch.status.total for batch in (made.maps, *made.levels)] == [10, 3, 1]
        assert [level.id for level in client.map_reduce_of(made.id).levels] == [level.id for level in made.levels]
        started = run_all(ledger)
        assert len(started) == len(set(started)) == 14
        assert made.final.state is SUCCEEDED
        if next(left) > 0:
            break
    assert die_at == 12


# -- map/reduce ------------------------------------------------------------------------------------------------------


def test_a_tree_of_reduces(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, range(10), REDUCE, fan_in=4, max_parallel=3)
    gathers = [[r.spec.gather for r in level.records() if r.spec and r.spec.gather] for level in made.levels]
    assert [(g.batch, g.first, g.count) for g in gathers[0]] == [
        (made.maps.id, 0, 4),
        (made.maps.id, 4, 4),
        (made.maps.id, 8, 2),
    ]
    assert [(g.batch, g.first, g.count) for g in gathers[1]] == [(made.levels[0].id, 0, 3)]
    order = run_all(ledger)
    assert order[:10] == job_ids(made.maps, 10)
    assert set(order[10:13]) == set(job_ids(made.levels[0], 3))
    assert order[13:] == [made.final.id]
    assert made.wait(10).state is SUCCEEDED


def test_too_few_maps_skip_all_reduces_with_the_reasons_counted(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, range(10), REDUCE, fan_in=4, min_success=0.8)
    run_all(ledger, fails=job_ids(made.maps, 3))
    assert [level.status.counts for level in made.levels] == [{SKIPPED: 3}, {SKIPPED: 1}]
    cause = f"batch {made.maps.id}: stopped by min_success: 3 of 10 jobs did not succeed, 8 must"
    assert {record.detail for record in made.levels[0].records()} == {cause}
    assert made.final.record().detail == f"batch {made.levels[0].id}: 0 of 3 jobs succeeded, 3 needed ({cause})"
    with pytest.raises(BatchFailed, match=r"stopped by min_success: 3 of 10 jobs did not succeed.*3 x exit code 1"):
        made.wait(10)


def test_a_reduce_over_nothing(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, [], REDUCE)
    assert [level.status.size for level in made.levels] == [1]
    assert run_all(ledger) == [made.final.id]


def test_cancelling_a_map_reduce(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, range(5), REDUCE, fan_in=2)
    assert made.cancel() == 5 + 3 + 2 + 1
    assert queued(ledger) == []
    assert made.final.state is CANCELLED


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"max_parallel": 0}, "max_parallel"), ({"min_success": 1.5}, "min_success"), ({"fan_in": 1}, "fan_in")],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    client: Client, ledger: Ledger, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(SpecError) as caught:
        client.map_reduce(SPEC, range(5), REDUCE, **arguments)
    assert caught.value.field == field
    assert ledger.batches.recent() == []


# -- retrying --------------------------------------------------------------------------------------------------------


def test_retrying_what_failed(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(5), min_success=0.5, name="five")
    ids = job_ids(batch, 5)
    with pytest.raises(SpecError, match="has not ended"):
        batch.retry_failed()
    run_all(ledger, fails=[ids[1], ids[3]])
    again = batch.retry_failed(limits={"memory": "64M"})
    assert (again.status.name, again.status.size, again.status.total, again.status.min_success) == ("five", 2, 2, 0.5)
    records = list(again.records())
    assert [record.replay_of for record in records] == [ids[1], ids[3]]
    assert [record.spec.command for record in records if record.spec] == [("1",), ("3",)]
    assert [record.spec.limits.memory for record in records if record.spec] == [64 * 2**20] * 2
    assert ledger.queries.get(ids[1]).replayed_by == records[0].id
    run_all(ledger)
    assert again.wait(10).state is SUCCEEDED
    assert again.failed == []
    assert again.retry_failed().wait(0).total == 0


# -- lifetimes -------------------------------------------------------------------------------------------------------


def test_batches_are_forgotten_with_their_jobs(client: Client, ledger: Ledger) -> None:
    done, open_, abandoned = client.map(SPEC, range(2)), client.map(SPEC, range(2)), []
    with pytest.raises(Crash):
        client.map(SPEC, crashing(2000, 1999), name="abandoned")
    abandoned = [record.id for record in ledger.batches.recent() if record.name == "abandoned"]
    for job_id in job_ids(done, 2):
        end(ledger, job_id)
    assert ledger.maintenance.sweep() == 0
    brief = Ledger(ledger.client, ledger.prefix, ttl=0)
    eventually(lambda: brief.maintenance.sweep() == 1, 10, "the batch that has ended to be forgotten")
    assert {record.id for record in ledger.batches.recent()} == {open_.id, *abandoned}
    assert not list(ledger.client.scan_iter(f"{ledger.prefix}:batch:{done.id}*"))
    client.batch(abandoned[0]).cancel()
    eventually(lambda: brief.maintenance.sweep() == 1, 10, "the batch that was cancelled to be forgotten")
    assert [record.id for record in ledger.batches.recent()] == [open_.id]
