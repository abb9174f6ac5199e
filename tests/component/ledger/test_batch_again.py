"""Batches that are submitted again, replayed in place, or stopped by one of their rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from jaas_submit import Batch, BatchFailed, Client, JobSpec, JobState, MapReduce, SpecError, WaitTimeout
from jaas_submit.ledger import Ledger
from jaas_submit.ledger.batches import Batches
from jaas_submit.ledger.submission import Submission
from jaas_submit.model.causes import Cause
from jaas_submit.model.ids import batch_job_id
from jaas_submit.model.records import Attempt
from jaas_worker.maintenance.cancelled_batches import CancelledBatches
from tests.component.ledger.test_batches import HOLDER, Crash, end, queued, run_all, states
from tests.support.twins import TWINS, client_of

pytestmark = pytest.mark.redis

QUEUED, WAITING, RUNNING = JobState.QUEUED, JobState.WAITING, JobState.RUNNING
SUCCEEDED, FAILED, CANCELLED, SKIPPED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED
SPEC = JobSpec(image="a", command=["{item}"])
REDUCE = JobSpec(image="r", output="json")


@pytest.fixture(params=TWINS)
def client(request: pytest.FixtureRequest, redis_url: str, prefix: str, ledger: Ledger) -> Iterator[Client]:
    ledger.maintenance.renew_lease(HOLDER, 3600, {})
    with client_of(request.param, redis_url, queue=prefix, prefix=prefix) as made:
        yield made


def words(batch: Batch) -> list[str]:
    """Return what the batch's jobs were given, in the order of its inputs."""
    return [record.spec.command[0] for record in batch.records() if record.spec and record.spec.command]


def ended_in_order(ledger: Ledger, batch: Batch) -> list[str]:
    """Return what the jobs whose results come in order were given."""
    ids = [result.job_id for result in batch.results(ordered=True, timeout=10)]
    return [str(record.spec.command[0]) for record in ledger.queries.find(ids) if record.spec and record.spec.command]


def run_by_word(ledger: Ledger, *bad: str) -> list[str]:
    """Run whatever may be started; jobs that were given one of these words fail. Return the words."""
    done = []
    while ids := queued(ledger):
        for record in reversed(ledger.queries.find(ids)):
            assert record.spec
            word = str((record.spec.command or [""])[0])
            done.append(word)
            end(ledger, record.id, FAILED if word in bad else SUCCEEDED)
    return done


# -- the same key again ------------------------------------------------------------------------------------------------


def test_one_new_input_at_the_front_is_the_only_one_that_is_submitted(client: Client, ledger: Ledger) -> None:
    first = client.map(SPEC, ["b", "c"], key="nightly")
    assert (first.existing, first.difference) == (0, "")
    assert run_by_word(ledger) == ["b", "c"]
    again = client.map(SPEC, ["a", "b", "c"], key="nightly")
    assert (again.id, again.existing, again.difference) == (first.id, 2, "")
    assert not again.status.done
    assert run_by_word(ledger) == ["a"]
    assert (again.status.state, again.status.total) == (SUCCEEDED, 3)
    assert words(again) == ended_in_order(ledger, again) == ["a", "b", "c"]
    assert words(client.batch(again.id)) == ["a", "b", "c"], "from anywhere"


def test_what_is_changed_added_dropped_and_moved(client: Client, ledger: Ledger) -> None:
    client.map(SPEC, ["a", "b", "c", "d"], key="k", min_success=0.5)
    assert run_by_word(ledger, "b") == ["a", "b", "c", "d"]
    again = client.map(SPEC, ["d", "B", "a", "e"], key="k", min_success=0.5)
    assert again.existing == 2
    assert "2 ended jobs count no more, because this call does not have their inputs" in again.difference
    assert run_by_word(ledger) == ["B", "e"]
    assert again.status.reason == "4 of 4 jobs succeeded, 2 needed"
    assert words(again) == ended_in_order(ledger, again) == ["d", "B", "a", "e"]
    assert again.failed == []
    # An input that is back has its job still.
    back = client.map(SPEC, ["b", "a"], key="k", min_success=0.5)
    assert (back.existing, queued(ledger)) == (2, [])
    assert back.status.counts == {SUCCEEDED: 1, FAILED: 1}
    assert words(back) == ["b", "a"]


def test_a_dropped_input_whose_job_has_not_ended_counts_until_then(client: Client, ledger: Ledger) -> None:
    client.map(SPEC, ["a", "b"], key="k")
    batch = client.map(SPEC, ["a"], key="k")
    assert (batch.status.total, batch.status.size, batch.difference) == (2, 2, "")
    assert run_by_word(ledger, "b") == ["a", "b"]
    assert batch.status.state is FAILED
    assert client.map(SPEC, ["a"], key="k").status.state is SUCCEEDED


def test_equal_inputs_are_jobs_of_their_own(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["a", "b", "a"], key="k")
    assert run_by_word(ledger) == ["a", "b", "a"]
    assert client.map(SPEC, ["a", "a", "b"], key="k").existing == 3
    assert client.map(SPEC, ["a", "b", "a", "a"], key="k").existing == 3
    assert run_by_word(ledger) == ["a"]
    assert words(batch) == ["a", "b", "a", "a"]


@dataclass(frozen=True)
class Page:
    """What a producer's program has."""

    url: str
    size: int


def test_a_key_is_made_of_what_the_program_has(client: Client) -> None:
    def url(page: Page) -> str:
        return page.url

    client.map(JobSpec(image="alpine", command=["echo", "{item.url}"]), [Page("a", 1)], key="k", key_of=url)
    again = client.map(
        JobSpec(image="alpine", command=["echo", "{item.url}"]), [Page("b", 1), Page("a", 1)], key="k", key_of=url
    )
    assert again.existing == 1


def test_inputs_by_a_key_of_their_own(client: Client, ledger: Ledger) -> None:
    def number(item: Any) -> int:
        return int(item["n"])

    spec = JobSpec(image="a", command=["{item.n}"], env={"X": "{item.x}"})
    client.map(spec, [{"n": 1, "x": 1}, {"n": 2, "x": 1}], key="k", key_of=number)
    run_all(ledger)
    again = client.map(spec, [{"n": 2, "x": 7}, {"n": 3, "x": 1}, {"n": 1, "x": 1}], key="k", key_of=number)
    assert again.existing == 2
    assert again.difference == f"batch {again.id}: 1 inputs have a known key and other content, and keep their jobs"
    assert run_by_word(ledger) == ["3"]
    assert words(again) == ["2", "3", "1"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"key_of": str}, "key_of: needs a key"),
        ({"again": True}, "again: needs a key"),
        (
            {"key": "k", "key_of": lambda _: None},
            "key_of: must return a text or a whole number for each input, not None as for input 0",
        ),
        ({"max_failures": -1}, "max_failures: -1 is no limit; write a number"),
        ({"max_failures": "120%"}, "max_failures: 120% is no limit"),
        ({"max_failures": 1.5}, "max_failures: 1.5 is no limit"),
        ({"max_failures": True}, "max_failures: True is no limit"),
    ],
)
def test_what_is_refused(client: Client, ledger: Ledger, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text) as caught:
        client.map(SPEC, [7], **arguments)
    assert caught.value.field == text.partition(":")[0]
    assert queued(ledger) == []


def test_what_differs_is_said_in_one_sentence(client: Client, ledger: Ledger) -> None:
    first = client.map(SPEC, ["a", "b"], key="k", max_parallel=3)
    other = JobSpec(image="b", command=["x", "{item}"], env={"LEVEL": "2"})
    again = client.map(other, ["a", "c"], key="k", min_success=0.5)
    assert again.difference == (
        f"batch {first.id}: the batch keeps its max_parallel and min_success, which this call gives otherwise; "
        "jobs that are there keep their command, env and image, which this call describes otherwise"
    )
    assert first.status.max_parallel == again.status.max_parallel == 3
    assert words(again) == ["a", "x", "b"], "the new one is as this call says; b has not ended"


def test_a_call_whose_inputs_are_all_new_says_what_it_drops(client: Client, ledger: Ledger) -> None:
    first = client.map(SPEC, ["a", "b"], key="k")
    run_all(ledger)
    again = client.map(SPEC, ["c"], key="k", max_parallel=2)
    assert (again.existing, again.difference) == (
        0,
        f"batch {first.id}: the batch keeps its max_parallel, which this call gives otherwise; "
        "2 ended jobs count no more, because this call does not have their inputs",
    )


def test_a_batch_yields_the_jobs_in_its_places(client: Client, ledger: Ledger, redis_url: str) -> None:
    made = client.map(SPEC, ["a", "b", "c"], key="k")
    with Client(redis_url, queue=ledger.prefix, prefix=ledger.prefix) as sync:
        batch = sync.batch(made.id)
        assert [handle.id for handle in batch] == [batch.job(index).id for index in range(3)]
        run_by_word(ledger, "b")
        client.map(SPEC, ["c", "b"], key="k", again=True)
        run_all(ledger)
        assert [handle.id for handle in batch] == [record.id for record in batch.records()]
        assert len(batch) == 2
        assert [one.exit_code for one in sync.gather(batch, timeout=10)] == [0, 0]
        assert (batch[0], batch[-1]) == tuple(batch)
        with pytest.raises(IndexError, match="has 2 jobs, and none with index 2"):
            batch[2]


def test_the_same_call_changes_nothing(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["b", "a"], key="k")
    run_all(ledger)
    client.map(SPEC, ["a", "b"], key="k")
    before = batch.status
    again = client.map(SPEC, ["a", "b"], key="k")
    assert (again.existing, again.status) == (2, before)


def test_a_call_that_crashed_is_completed_with_other_inputs(client: Client, ledger: Ledger) -> None:
    def inputs() -> Iterator[int]:
        yield from range(700)
        raise Crash

    with pytest.raises(Crash):
        client.map(SPEC, inputs(), key="k", max_parallel=2)
    batch = client.map(SPEC, range(-1, 700), key="k", max_parallel=2)
    assert (batch.existing, batch.status.size, batch.status.total) == (500, 701, 701)
    assert words(batch)[:3] == ["-1", "0", "1"]
    assert len(run_all(ledger)) == 701


def test_a_cancelled_batch_starts_again_when_asked_to(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["a", "b", "c"], key="k", max_parallel=1)
    end(ledger, batch.job(0).id)
    batch.cancel("not today")
    with pytest.raises(SpecError, match=rf"key: its batch {batch.id} has ended early \(not today\); again=True"):
        client.map(SPEC, ["a", "b", "c"], key="k")
    assert batch.status.state is CANCELLED
    again = client.map(SPEC, ["a", "b", "c", "d"], key="k", again=True)
    assert (again.id, again.existing) == (batch.id, 3)
    assert run_by_word(ledger) == ["b", "c", "d"]
    assert again.status.reason == "4 of 4 jobs succeeded, 4 needed"
    assert ended_in_order(ledger, again) == words(again) == ["a", "b", "c", "d"]


def test_again_before_the_cancellation_is_over(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["a"], key="k")
    ledger.ownership.claim(batch.job(0).id, HOLDER)
    batch.cancel("not today")
    with pytest.raises(SpecError, match=r"again: the jobs of batch .* are still being cancelled"):
        client.map(SPEC, ["a"], key="k", again=True)


@pytest.mark.parametrize("cancelled_again", [False, True])
def test_a_canceller_that_is_late_spares_what_was_started_again(
    client: Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, cancelled_again: bool
) -> None:
    batch = client.map(SPEC, ["a", "b"], key="k")
    ledger.batches.cancel(batch.id, "not today")
    monkeypatch.setattr("jaas_submit.ledger.batches.PAGE", 1)
    real = ledger.submission.cancel_many

    def slow(*args: Any) -> None:
        monkeypatch.setattr(ledger.submission, "cancel_many", real)
        batch.cancel()  # by somebody who is faster
        client.map(SPEC, ["a", "b"], key="k", again=True)
        if cancelled_again:  # by somebody who dies before the jobs are cancelled
            Ledger(ledger.client, ledger.prefix).batches.cancel(batch.id, "nor tomorrow")
        real(*args)

    monkeypatch.setattr(ledger.submission, "cancel_many", slow)
    ledger.batches.cancel_jobs(batch.id)
    if not cancelled_again:
        assert batch.status.counts == {QUEUED: 2}
    else:
        CancelledBatches(ledger).run_once()
        assert batch.wait(10, check=False).state is CANCELLED


def test_again_of_what_failed_uses_this_calls_description(client: Client, ledger: Ledger) -> None:
    client.map(SPEC, ["a", "b"], key="k")
    run_by_word(ledger, "b")
    assert client.map(SPEC, ["a", "b"], key="k").status.state is FAILED
    batch = client.map(JobSpec(image="a:2", command=["{item}"]), ["a", "b"], key="k", again=True)
    assert run_by_word(ledger) == ["b"]
    assert [record.spec.image for record in batch.records() if record.spec] == ["a", "a:2"]
    assert batch.status.state is SUCCEEDED


def test_two_calls_at_once_do_not_mix_up_their_inputs(client: Client, ledger: Ledger, redis_url: str) -> None:
    client.map(SPEC, ["a"], key="k")

    def inputs() -> Iterator[str]:
        yield "a"
        client_two.map(SPEC, ["a", "other"], key="k")
        yield "mine"

    with (
        client_of("sync", redis_url, queue=ledger.prefix, prefix=ledger.prefix) as client_two,
        pytest.raises(SpecError, match="key: another call submits other inputs"),
    ):
        client.map(SPEC, inputs(), key="k")
    batch = client.map(SPEC, ["a", "mine"], key="k")
    assert words(batch) == ["a", "mine", "other"]


# -- map/reduce --------------------------------------------------------------------------------------------------------


def gathered(ledger: Ledger, made: MapReduce) -> list[str]:
    """Return what the only reduce would read: the words of the maps."""
    record = made.final.record()
    assert record.spec
    gather = record.spec.gather
    assert gather
    found = ledger.queries.gathered(gather.batch, gather.first, gather.count)
    return [str(one.spec.command[0]) for one in found if one.spec and one.spec.command]


def test_other_inputs_are_reduced_anew(client: Client, ledger: Ledger) -> None:
    first = client.map_reduce(SPEC, ["b", "c"], REDUCE, key="k")
    run_all(ledger)
    assert first.final.state is SUCCEEDED
    same = client.map_reduce(SPEC, ["b", "c"], REDUCE, key="k")
    assert same.final.id == first.final.id
    again = client.map_reduce(SPEC, ["a", "c"], REDUCE, key="k")
    assert again.final.state is WAITING
    run_by_word(ledger)
    assert again.final.state is SUCCEEDED
    assert gathered(ledger, again) == ["a", "c"]
    found = client.map_reduce_of(again.levels[0].id)
    assert (found.id, found.final.id) == (first.maps.id, again.final.id)
    moved = client.map_reduce(SPEC, ["c", "a"], REDUCE, key="k")
    run_by_word(ledger)
    assert gathered(ledger, moved) == ["c", "a"]
    assert moved.wait(10).state is SUCCEEDED


def test_reduces_of_before_that_have_not_run_are_cancelled(client: Client, ledger: Ledger) -> None:
    first = client.map_reduce(SPEC, range(5), REDUCE, key="k", fan_in=2)
    again = client.map_reduce(SPEC, range(6), REDUCE, key="k", fan_in=2)
    assert {level.status.state for level in first.levels} == {CANCELLED}
    assert [level.status.size for level in again.levels] == [3, 2, 1]
    run_all(ledger)
    assert again.wait(10).state is SUCCEEDED


def test_reduces_that_are_there_keep_their_fan_in(client: Client, ledger: Ledger) -> None:
    first = client.map_reduce(SPEC, range(5), REDUCE, key="k", fan_in=2)
    again = client.map_reduce(SPEC, range(5), REDUCE, key="k", fan_in=3)
    assert [level.id for level in again.levels] == [level.id for level in first.levels]
    assert again.final.id == first.final.id


class DyingAt:
    """The n-th step of submitting reduces kills the process."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self.left = number
        for name in ("create", "close", "set_reduces"):
            patch.setattr(Batches, name, self.step(getattr(Batches, name)))

    def step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Crash
            return real(*args, **named)

        return call


@pytest.mark.parametrize("number", range(9))
def test_whoever_finds_reduces_finds_all_levels(
    client: Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made = client.map_reduce(SPEC, range(5), REDUCE, fan_in=2, min_success=0.5)
    run_by_word(ledger, "1")
    with monkeypatch.context() as patch:
        DyingAt(patch, number)
        with pytest.raises(Crash):
            client.replay(made.maps.job(1).id, in_place=True)
    assert [level.status.total for level in client.map_reduce_of(made.id).levels] == [3, 2, 1]
    run_all(ledger)
    client.replay(made.maps.job(1).id, in_place=True)
    run_all(ledger)
    found = client.map_reduce_of(made.id)
    assert [level.status.total for level in found.levels] == [3, 2, 1]
    assert found.final.id != made.final.id
    assert found.wait(10).state is SUCCEEDED


COMPLETED_BY: dict[str, Callable[[Client, MapReduce], Any]] = {
    "the same call": lambda client, made: client.replay(made.maps.job(1).id, in_place=True),
    "another replay": lambda client, made: made.maps.retry_failed(in_place=True),
    "a reader": lambda client, made: client.map_reduce_of(made.id),
    "who waits": lambda client, made: None,
}


@pytest.mark.parametrize("by", COMPLETED_BY)
def test_reduces_that_a_dead_replay_has_not_submitted(
    client: Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    made = client.map_reduce(SPEC, ["a", "b"], REDUCE, min_success=0.5)
    run_by_word(ledger, "b")
    old = made.wait(10).job_id

    def die(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("jaas_submit.client.replay.renew_reduces", die)
        with pytest.raises(Crash):
            client.replay(made.maps.job(1).id, in_place=True, command=["B"])
    run_all(ledger)
    COMPLETED_BY[by](client, made)
    with pytest.raises(WaitTimeout):
        made.wait(0)
    run_all(ledger)
    assert made.wait(10).job_id != old
    assert gathered(ledger, made) == ["a", "B"]


def test_a_replay_while_inputs_are_added_leaves_the_reduces_to_the_submission(client: Client, ledger: Ledger) -> None:
    first = client.map_reduce(SPEC, ["a", "b"], REDUCE, key="k", min_success=0.5)
    run_by_word(ledger, "b")

    def inputs() -> Iterator[str]:
        yield from ("a", "b", *map(str, range(600)))
        client.replay(first.maps.job(1).id, in_place=True)
        yield "last"

    again = client.map_reduce(SPEC, inputs(), REDUCE, key="k", min_success=0.5, fan_in=1000)
    run_all(ledger)
    assert gathered(ledger, again) == ["a", "b", *map(str, range(600)), "last"]
    assert again.wait(10).job_id == again.final.id


def test_a_map_reduce_is_found_by_its_id(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, range(5), REDUCE, fan_in=2)
    for batch in (made.maps, *made.levels):
        found = client.map_reduce_of(batch.id)
        assert (found.id, found.maps.id) == (made.id, made.maps.id)
        assert [level.id for level in found.levels] == [level.id for level in made.levels]
    with pytest.raises(SpecError, match="no reduces follow it"):
        client.map_reduce_of(client.map(SPEC, [1]).id)


# -- replay in place ---------------------------------------------------------------------------------------------------


def test_a_map_replayed_in_place_reaches_the_reduce(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, ["a", "b", "c"], REDUCE, fan_in=2)
    run_by_word(ledger, "b")
    with pytest.raises(BatchFailed, match="1 x exit code 1"):
        made.wait(10)
    assert made.final.state is SKIPPED
    bad = made.maps.job(1).id
    new = client.replay(bad, in_place=True, command=["B"])
    status = made.maps.status
    assert (status.done, status.size, status.counts) == (False, 3, {SUCCEEDED: 2, QUEUED: 1})
    assert (ledger.queries.get(bad).left, new.record().replay_of) == (f"job {new.id} took its place", bad)
    assert f"It counts in its batch no more: job {new.id} took its place." in str(client.explain(bad))
    assert run_by_word(ledger)[0] == "B"
    assert made.maps.status.reason == "3 of 3 jobs succeeded, 3 needed"
    assert made.wait(10).state is SUCCEEDED
    (one, two), (_,) = (list(level.records()) for level in made.levels)
    read = [
        ledger.queries.gathered(made.maps.id, r.spec.gather.first, 2) for r in (one, two) if r.spec and r.spec.gather
    ]
    assert [[r.spec.command for r in part if r.spec] for part in read] == [[("a",), ("B",)], [("c",)]]
    assert words(made.maps) == ended_in_order(ledger, made.maps) == ["a", "B", "c"]
    assert made.maps.failed == []


def test_a_reduce_that_had_run_runs_again(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, ["a", "b"], REDUCE, min_success=0.5)
    run_by_word(ledger, "b")
    old = made.wait(10).job_id
    client.replay(made.maps.job(1).id, in_place=True)
    run_all(ledger)
    assert made.wait(10).job_id != old
    assert ledger.queries.get(old).state is SUCCEEDED, "it stays what it is"


def test_a_reduce_that_waits_keeps_waiting(client: Client, ledger: Ledger) -> None:
    made = client.map_reduce(SPEC, ["a", "b"], REDUCE)
    end(ledger, made.maps.job(0).id, FAILED)
    final = made.final.id
    client.replay(made.maps.job(0).id, in_place=True)
    run_all(ledger)
    assert made.wait(10).job_id == final


def test_a_replay_in_place_may_be_repeated(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["a"])
    bad = batch.job(0).id
    with pytest.raises(SpecError, match="only a job that has ended can be replayed"):
        client.replay(bad, in_place=True)
    end(ledger, bad, FAILED)
    new = client.replay(bad, in_place=True)
    assert client.replay(bad, in_place=True).id == new.id, "it has not ended"
    end(ledger, new.id, FAILED)
    third = client.replay(bad, in_place=True)
    assert third.id not in {bad, new.id}
    end(ledger, third.id)
    assert client.replay(bad, in_place=True).id == third.id, "it has succeeded"
    assert (batch.status.state, batch.status.size, batch.status.left) == (SUCCEEDED, 1, 2)
    ledger.submission.create("lone", SPEC, "q")
    with pytest.raises(SpecError, match="in_place: job lone has no place in a batch"):
        client.replay("lone", in_place=True)


def test_all_that_failed_in_place(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["a", "b", "c"], max_failures=1, max_parallel=1)
    end(ledger, batch.job(0).id, FAILED)
    end(ledger, batch.job(1).id, FAILED)
    CancelledBatches(ledger).run_once()
    assert batch.status.counts == {FAILED: 2, CANCELLED: 1}
    assert batch.retry_failed(in_place=True, env={"X": "1"}).id == batch.id
    assert run_by_word(ledger) == ["a", "b", "c"]
    assert batch.wait(10).reason == "3 of 3 jobs succeeded, 3 needed"
    assert {record.spec.env["X"] for record in batch.records() if record.spec} == {"1"}


def failing_between_parts(ledger: Ledger, patch: pytest.MonkeyPatch, failures: int) -> None:
    """Let the next submission write five jobs at once, and jobs fail between the first part and the second."""
    for module in ("enqueue", "replay", "maps.submit", "maps.by_key"):
        patch.setattr(f"jaas_submit.client.{module}.CHUNK", 5)
    real = Submission.create_many

    def create_many(self: Submission, jobs: Any) -> Any:
        made = real(self, jobs)
        patch.setattr(Submission, "create_many", real)
        for job_id in queued(ledger)[:failures]:
            end(ledger, job_id, FAILED)
        return made

    patch.setattr(Submission, "create_many", create_many)


RETRIED_BY: dict[str, Callable[[Client, Batch], Any]] = {
    "in place": lambda client, batch: batch.retry_failed(in_place=True),
    "again": lambda client, batch: client.map(SPEC, range(8), key="k", again=True),
}


@pytest.mark.parametrize("rules", [{"max_failures": 3}, {"max_failures": "40%"}, {"min_success": 0.6}])
@pytest.mark.parametrize("how", RETRIED_BY)
def test_what_is_still_to_be_replaced_stops_nothing(
    client: Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, how: str, rules: dict[str, Any]
) -> None:
    batch = client.map(SPEC, range(8), key="k", **rules)
    for job_id in queued(ledger):
        ledger.ownership.claim(job_id, HOLDER)  # all of them run when the rule is broken
    attempt = Attempt(number=1, state=FAILED, cause=Cause.EXIT, exit_code=1)
    for number in range(8):
        ledger.ownership.finish(batch.job(number).id, HOLDER, [attempt], None, None)
    assert batch.status.counts == {FAILED: 8}
    failing_between_parts(ledger, monkeypatch, 2)
    RETRIED_BY[how](client, batch)
    assert batch.status.counts == {QUEUED: 6, FAILED: 2}
    assert batch.status.cancelled == ""
    end(ledger, queued(ledger)[0], FAILED)
    assert batch.status.cancelled == ""
    end(ledger, queued(ledger)[0], FAILED)
    assert batch.status.stopped, "now four have failed"


@pytest.mark.parametrize("how", RETRIED_BY)
def test_new_failures_stop_what_is_replaced_in_parts(
    client: Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    batch = client.map(SPEC, range(8), key="k", max_failures=2)
    for job_id in queued(ledger)[:3]:
        end(ledger, job_id, FAILED)
    CancelledBatches(ledger).run_once()
    failing_between_parts(ledger, monkeypatch, 3)
    if how == "in place":
        with pytest.raises(SpecError, match=r"in_place: batch .* is being cancelled; try again when it has ended"):
            RETRIED_BY[how](client, batch)
    else:
        RETRIED_BY[how](client, batch)
    assert batch.status.cancelled == "stopped by max_failures: 3 jobs failed, at most 2 may"
    CancelledBatches(ledger).run_once()
    assert batch.wait(10, check=False).state is FAILED
    client.map(SPEC, range(8), key="k", again=True)
    assert len(run_all(ledger)) == 8
    assert batch.status.state is SUCCEEDED


def test_max_parallel_holds_for_what_is_replayed(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(4), max_parallel=2)
    run_all(ledger, fails=[batch.job(n).id for n in range(4)])
    batch.retry_failed(in_place=True)
    assert batch.status.counts == {QUEUED: 2, WAITING: 2}
    assert len(run_all(ledger)) == 4
    assert batch.status.state is SUCCEEDED


def test_replaying_while_results_are_read(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["a", "b"])
    first = batch.job(0).id
    end(ledger, first, FAILED)
    results = iter(batch.results(timeout=10))
    assert next(results).job_id == first
    new = client.replay(first, in_place=True)
    run_all(ledger)
    assert {result.job_id for result in results} == {new.id, batch.job(1).id}
    assert {result.job_id for result in batch.results(timeout=10)} == {new.id, batch.job(1).id}


# -- rules that stop a batch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "failures", "why"),
    [
        ({"max_failures": 0}, 1, "stopped by max_failures: 1 jobs failed, at most 0 may"),
        ({"max_failures": "2"}, 3, "stopped by max_failures: 3 jobs failed, at most 2 may"),
        ({"max_failures": 0.1}, 2, "stopped by max_failures: 2 of 10 jobs failed, at most 10% may"),
        ({"max_failures": "25%"}, 3, "stopped by max_failures: 3 of 10 jobs failed, at most 25% may"),
        ({"min_success": 0.8}, 3, "stopped by min_success: 3 of 10 jobs did not succeed, 8 must"),
        ({"min_success": 1}, 1, "stopped by min_success: 1 of 10 jobs did not succeed, 10 must"),
    ],
)
def test_a_rule_that_is_broken_stops_the_rest(
    client: Client, ledger: Ledger, rules: dict[str, Any], failures: int, why: str
) -> None:
    batch = client.map(SPEC, range(10), max_parallel=4, **rules)
    after = client.submit(SPEC, after=[batch])
    ids = [batch_job_id(batch.id, index) for index in range(10)]
    for job_id in ids[: failures - 1]:
        end(ledger, job_id, FAILED)
    assert not batch.status.stopped
    running = next(one for one in queued(ledger) if one != ids[failures - 1])
    ledger.ownership.claim(running, HOLDER)
    end(ledger, ids[failures - 1], FAILED)
    assert (batch.status.stopped, batch.status.cancelled) == (True, why)
    ready = queued(ledger)
    # What a worker claims before the others are cancelled is not started, either.
    assert ledger.ownership.claim(ready[0], HOLDER).record.cancel == why  # type: ignore[union-attr] # it has one
    CancelledBatches(ledger).run_once()
    assert queued(ledger) == []
    assert ledger.ownership.cancel_reasons([running, ready[0]]) == {running: why, ready[0]: why}
    for job_id in (running, ready[0]):
        end_cancelled(ledger, job_id)
    assert (batch.status.state, batch.status.reason) == (FAILED, why)
    assert batch.status.counts == {FAILED: failures, CANCELLED: 10 - failures}
    assert after.state is SKIPPED
    assert why in str(client.explain(ids[9]))
    with pytest.raises(BatchFailed, match="stopped by m"):
        batch.wait(10)


def end_cancelled(ledger: Ledger, job_id: str) -> None:
    from jaas_submit import Attempt, Cause

    assert ledger.ownership.finish(job_id, HOLDER, [Attempt(number=1, state=CANCELLED, cause=Cause.CANCELLED)])


def test_without_a_rule_nothing_is_stopped(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(5))
    run_all(ledger, fails=[batch.job(0).id])
    assert batch.status.reason == "4 of 5 jobs succeeded, 5 needed"


def test_one_failure_too_many_at_the_end_is_the_same(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, range(3), min_success=0.5, max_failures=0)
    run_all(ledger, fails=[batch.job(2).id])
    assert (batch.status.state, batch.status.reason) == (FAILED, "max_failures: 1 jobs failed, at most 0 may")


def test_a_batch_that_is_stopped_while_it_is_submitted(client: Client, ledger: Ledger) -> None:
    def inputs() -> Iterator[int]:
        for number in range(2000):
            if number == 700:
                end(ledger, queued(ledger)[-1], FAILED)
            yield number

    batch = client.map(SPEC, inputs(), max_failures=0)
    assert (batch.status.size, batch.status.total) == (500, 500)
    CancelledBatches(ledger).run_once()
    assert (batch.status.state, batch.status.counts) == (FAILED, {FAILED: 1, CANCELLED: 499})


def test_a_stopped_batch_starts_again_when_asked_to(client: Client, ledger: Ledger) -> None:
    batch = client.map(SPEC, ["a", "b", "c"], key="k", max_failures=0, max_parallel=1)
    end(ledger, batch.job(0).id, FAILED)
    CancelledBatches(ledger).run_once()
    with pytest.raises(SpecError, match="stopped by max_failures"):
        client.map(SPEC, ["a", "b", "c"], key="k")
    client.map(SPEC, ["a", "b", "c"], key="k", again=True)
    assert run_by_word(ledger) == ["a", "b", "c"]
    assert batch.status.state is SUCCEEDED
    assert states(ledger, batch.job(0).id) == [FAILED], "the first one stays what it was"
