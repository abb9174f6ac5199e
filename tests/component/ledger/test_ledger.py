"""Every script of the ledger, on a real Redis."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.connection import connect
from jaas_submit.errors import LedgerUnavailable, SpecError, TemporaryError, UnknownJob
from jaas_submit.ledger import Claim, ClaimAction, Due, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import LogLine, Logs, LogStatus
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import TERMINAL, TRANSITIONS, JobState
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually

SPEC = JobSpec(image="a", env={"A": "1"}, name="n")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LOGS = Logs((LogLine("t", "stdout", b"hello\n"),))

QUEUED, LAUNCHING, PENDING, RUNNING = JobState.QUEUED, JobState.LAUNCHING, JobState.PENDING, JobState.RUNNING
BACKOFF = JobState.BACKOFF
SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED

LONG = 3600.0
"""Seconds that no test lives to see the end of."""


def attempt(state: JobState = SUCCEEDED, number: int = 1, **fields: Any) -> Attempt:
    cause = Cause.CANCELLED if state is CANCELLED else Cause.EXIT
    return Attempt(
        **{"number": number, "state": state, "cause": cause, "exit_code": int(state is not SUCCEEDED), **fields}
    )


@pytest.fixture
def alive(ledger: Ledger) -> Callable[[str], str]:
    """Return a holder with a lease that outlives the test."""

    def live(holder: str) -> str:
        ledger.maintenance.renew_lease(holder, LONG, {"holder": holder})
        return holder

    return live


@pytest.fixture
def a(alive: Callable[[str], str]) -> str:
    return alive("a")


@pytest.fixture
def b(alive: Callable[[str], str]) -> str:
    return alive("b")


def bring(ledger: Ledger, job_id: str, holder: str, state: JobState) -> None:
    """Bring a new job into a state, with this holder where the state has one."""
    if state in {JobState.WAITING, JobState.SKIPPED}:
        before = f"before-{job_id}"
        ledger.submission.create(before, SPEC, "q")
        ledger.submission.create_many([NewJob(job_id, SPEC, "q", after=((before, "success"),))])
        if state is JobState.SKIPPED:
            ledger.submission.cancel(before, "never mind")
        return
    ledger.submission.create(job_id, SPEC, "q")
    if state is QUEUED:
        return
    assert ledger.ownership.claim(job_id, holder).action is ClaimAction.LAUNCH
    if state is LAUNCHING:
        return
    if state is BACKOFF:
        assert ledger.ownership.back_off(job_id, holder, [attempt(FAILED)], None, LONG, "later") == (True, "")
        return
    if state in {FAILED, CANCELLED}:
        assert ledger.ownership.finish(job_id, holder, [attempt(state)])
        return
    assert ledger.ownership.move(job_id, holder, PENDING)
    if state is RUNNING:
        assert ledger.ownership.move(job_id, holder, RUNNING)
    elif state is SUCCEEDED:
        assert ledger.ownership.finish(job_id, holder, [attempt()])


def crash(ledger: Ledger, holder: str) -> None:
    """Let a holder's lease end without its doing anything about its jobs."""
    ledger.maintenance.drop_lease(holder)


# -- creating --------------------------------------------------------------------------------------------------------


def test_a_new_record(ledger: Ledger) -> None:
    before = ledger.now()
    assert ledger.submission.create("j", SPEC, "q") is True
    record = ledger.queries.get("j")
    assert (record.id, record.state, record.queue, record.task_id) == ("j", QUEUED, "q", "j")
    assert (record.spec, record.attempt, record.holder, record.attempts) == (SPEC, 0, "", ())
    assert record.created_at == record.updated_at
    assert before - 0.001 <= record.created_at.timestamp() <= ledger.now()
    assert not record.reported
    assert ledger.ownership.foreign_message("j") == ""
    assert ledger.client.ttl(f"{ledger.prefix}:job:j") == -1


def test_a_second_creation_changes_nothing(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    first = ledger.queries.get("j")
    assert ledger.submission.create("j", JobSpec(image="b"), "other") is False
    assert ledger.queries.get("j") == first
    assert ledger.queries.ids() == ["j"]


def test_a_foreign_job_keeps_its_message_and_its_odd_task_id(ledger: Ledger) -> None:
    ledger.submission.create("j", None, "q", "odd id", '{"headers": {}}')
    record = ledger.queries.get("j")
    assert (record.spec, record.task_id, record.label) == (None, "odd id", "(no valid description)")
    assert ledger.ownership.foreign_message("j") == '{"headers": {}}'


def test_a_key_leads_to_one_job(ledger: Ledger) -> None:
    assert ledger.submission.create_once("j1", SPEC, "q", key="payroll") is None
    assert ledger.submission.create_once("j2", SPEC, "q", key="payroll") == "j1"
    assert ledger.submission.create_once("j3", SPEC, "q", key="other") is None
    assert sorted(ledger.queries.ids()) == ["j1", "j3"]
    assert ledger.queries.get("j1").key == "payroll"
    assert ledger.submission.create_once("j1", SPEC, "q", key="payroll") == "j1"  # the reply was lost


def test_a_key_outlives_its_record(ledger: Ledger) -> None:
    """Who pays salaries once a month keeps the key for longer than the output of the job."""
    ledger.submission.create_once("j1", SPEC, "q", key="payroll")
    ledger.client.delete(f"{ledger.prefix}:job:j1")
    assert ledger.submission.create_once("j2", SPEC, "q", key="payroll") == "j1"
    assert ledger.queries.find(["j1", "j2"]) == []


def test_of_many_with_the_same_key_one_is_created(ledger: Ledger) -> None:
    answers = at_once(20, lambda n: ledger.submission.create_once(f"j{n}", SPEC, "q", key="payroll"))
    (new,) = ledger.queries.ids()
    assert sorted(str(answer) for answer in answers) == sorted(["None", *[new] * 19])


def test_a_replay_is_linked_both_ways(ledger: Ledger) -> None:
    ledger.submission.create("j1", SPEC, "q")
    ledger.submission.create_once("j2", SPEC, "q", replay_of="j1")
    assert ledger.queries.get("j1").replayed_by == "j2"
    assert ledger.queries.get("j2").replay_of == "j1"


def test_a_replay_of_an_expired_record_does_not_bring_it_back(ledger: Ledger) -> None:
    ledger.submission.create_once("j2", SPEC, "q", replay_of="gone")
    assert ledger.queries.find(["gone"]) == []
    assert ledger.queries.get("j2").replay_of == "gone"


def test_a_description_that_this_version_cannot_read_is_listed_all_the_same(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    ledger.client.hset(f"{ledger.prefix}:job:j", "spec", '{"version": 99, "image": "a", "from_the_future": 1}')
    assert ledger.queries.get("j").spec is None


def test_what_is_not_there(ledger: Ledger, a: str) -> None:
    with pytest.raises(UnknownJob, match="no job nope is known; its record may have expired"):
        ledger.queries.get("nope")
    with pytest.raises(UnknownJob):
        ledger.submission.cancel("nope", "why")
    assert ledger.queries.find(["nope"]) == []
    assert ledger.queries.logs("nope", 1) is None
    assert ledger.ownership.claim("nope", a) == Claim(ClaimAction.UNKNOWN, "")
    assert not ledger.ownership.move("nope", a, PENDING)
    assert not ledger.ownership.finish("nope", a, [attempt()])
    assert ledger.ownership.back_off("nope", a, [attempt(FAILED)], None, 0, "") == (False, "")
    assert not ledger.ownership.mark_reported("nope", a)
    assert not ledger.ownership.release("nope", a)
    assert ledger.ownership.foreign_message("nope") == ""
    assert ledger.ownership.cancel_reasons(["nope"]) == {}
    assert ledger.client.keys(f"{ledger.prefix}:job:*") == []


ODD = ['"', "\\", "\x00\x1f", "\u00e9\u2028\U0001f600", "", "[]", "{}", "null", "1e400", "0", "%s|batch:x"]


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_texts_arrive_as_they_are(ledger: Ledger, a: str, text: str) -> None:
    """Arguments pass through JSON and Lua, which have their own ideas of numbers, of nothing and of empty lists."""
    assert ledger.submission.create("foreign", None, "q", "a task", text)
    assert ledger.ownership.foreign_message("foreign") == text
    bring(ledger, "j", a, PENDING)
    assert ledger.ownership.move("j", a, RUNNING, detail=text, node=text, started_at=1764490000.123457)
    record = ledger.queries.get("j")
    assert (record.detail, record.node or "") == (text, text)
    assert record.started_at is not None
    assert record.started_at.timestamp() == 1764490000.123457
    ended = attempt(FAILED, reason=text)
    done = ledger.ownership.finish("j", a, [ended], LOGS, output=json.dumps(text))
    assert done is not None
    assert (done.attempts, done.output, done.detail) == ((ended,), text, text)
    ledger.submission.create("k", SPEC, "q")
    ledger.submission.cancel("k", text)
    assert ledger.queries.get("k").detail == text


def test_a_number_that_json_does_not_know_is_refused(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    with pytest.raises(ValueError, match="JSON"):
        ledger.ownership.release("j", a, float("inf"))
    assert ledger.queries.get("j").holder == a


# -- claiming --------------------------------------------------------------------------------------------------------

# The state; who holds it, a live worker, a dead one, or nobody; what a claim by another worker answers.
CLAIMS: list[tuple[JobState, str, ClaimAction]] = [
    (QUEUED, "nobody", ClaimAction.LAUNCH),
    (LAUNCHING, "live", ClaimAction.HELD),
    (PENDING, "live", ClaimAction.HELD),
    (RUNNING, "live", ClaimAction.HELD),
    (SUCCEEDED, "live", ClaimAction.HELD),
    (FAILED, "live", ClaimAction.HELD),
    (CANCELLED, "live", ClaimAction.HELD),
    (LAUNCHING, "dead", ClaimAction.ADOPT),
    (PENDING, "dead", ClaimAction.ADOPT),
    (RUNNING, "dead", ClaimAction.ADOPT),
    (SUCCEEDED, "dead", ClaimAction.REPLAY),
    (FAILED, "dead", ClaimAction.REPLAY),
    (CANCELLED, "dead", ClaimAction.REPLAY),
    (LAUNCHING, "nobody", ClaimAction.ADOPT),
    (PENDING, "nobody", ClaimAction.ADOPT),
    (RUNNING, "nobody", ClaimAction.ADOPT),
    (SUCCEEDED, "nobody", ClaimAction.REPLAY),
    (FAILED, "nobody", ClaimAction.REPLAY),
    (CANCELLED, "nobody", ClaimAction.REPLAY),
    (BACKOFF, "nobody", ClaimAction.EARLY),
    (SUCCEEDED, "reported", ClaimAction.DONE),
    (FAILED, "reported", ClaimAction.DONE),
    (CANCELLED, "reported", ClaimAction.DONE),
]


@pytest.mark.parametrize(("state", "held_by", "action"), CLAIMS)
def test_a_claim(ledger: Ledger, a: str, b: str, state: JobState, held_by: str, action: ClaimAction) -> None:
    bring(ledger, "j", a, state)
    if held_by == "dead":
        crash(ledger, a)
    elif held_by == "reported":
        assert ledger.ownership.mark_reported("j", a)
    elif held_by == "nobody" and state not in {QUEUED, BACKOFF}:
        assert ledger.ownership.release("j", a)
    assert ledger.ownership.claim("j", b) == Claim(action, state)
    record = ledger.queries.get("j")
    mine = action in {ClaimAction.LAUNCH, ClaimAction.ADOPT, ClaimAction.REPLAY}
    assert (record.holder == b) == mine
    assert ledger.ownership.held_by(b) == ({"j"} if mine else set())
    assert record.state is (LAUNCHING if action is ClaimAction.LAUNCH else state)
    assert ("j" in ledger.ownership.held_by(a)) == (action is ClaimAction.HELD)
    if action is ClaimAction.LAUNCH:
        assert record.attempt == 1


def test_the_holder_itself_goes_on_with_its_job(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    assert ledger.ownership.claim("j", a) == Claim(ClaimAction.ADOPT, RUNNING)
    assert ledger.ownership.held_by(a) == {"j"}


def test_a_lost_reply_to_a_claim_does_no_harm(ledger: Ledger, a: str) -> None:
    ledger.submission.create("j", SPEC, "q")
    assert ledger.ownership.claim("j", a).action is ClaimAction.LAUNCH
    assert ledger.ownership.claim("j", a) == Claim(ClaimAction.ADOPT, LAUNCHING)
    assert ledger.queries.get("j").attempt == 1


def test_a_holder_whose_lease_ran_out_before_its_claim_is_still_found(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    assert ledger.ownership.claim("j", "never-renewed").action is ClaimAction.LAUNCH
    assert ledger.maintenance.reap() == ["j"]
    assert ledger.maintenance.unowned(0) == ["j"]


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Return what so many threads, started together, got."""
    barrier = threading.Barrier(count)
    answers: dict[int, Any] = {}

    def run(number: int) -> None:
        barrier.wait(20)
        answers[number] = call(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [answers[number] for number in range(count)]


@pytest.mark.parametrize(
    ("state", "won"),
    [
        (QUEUED, ClaimAction.LAUNCH),
        (LAUNCHING, ClaimAction.ADOPT),
        (RUNNING, ClaimAction.ADOPT),
        (FAILED, ClaimAction.REPLAY),
    ],
)
def test_of_many_live_workers_one_wins(ledger: Ledger, alive: Any, a: str, state: JobState, won: ClaimAction) -> None:
    bring(ledger, "j", a, state)
    crash(ledger, a)
    holders = [alive(f"h{n}") for n in range(20)]
    answers = at_once(20, lambda n: (holders[n], ledger.ownership.claim("j", holders[n])))
    (winner,) = [holder for holder, claim in answers if claim.action is won]
    assert [claim.action for _, claim in answers].count(ClaimAction.HELD) == 19
    assert ledger.queries.get("j").holder == winner
    assert [holder for holder in holders if ledger.ownership.held_by(holder)] == [winner]


# -- moving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [LAUNCHING, PENDING, RUNNING])
@pytest.mark.parametrize("state", [LAUNCHING, PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED])
def test_a_move_is_allowed_as_the_transitions_say(ledger: Ledger, a: str, state: JobState, target: JobState) -> None:
    bring(ledger, "j", a, state)
    allowed = target in TRANSITIONS[state] or (target is state and state not in TERMINAL)
    assert ledger.ownership.move("j", a, target, detail="said", node="n1") is allowed
    record = ledger.queries.get("j")
    assert record.state is (target if allowed else state)
    assert (record.detail, record.node) == (("said", "n1") if allowed else (record.detail, None))


@pytest.mark.parametrize("outcome", sorted(TERMINAL))
@pytest.mark.parametrize("state", [LAUNCHING, PENDING, RUNNING])
def test_a_job_ends_as_the_transitions_say(ledger: Ledger, a: str, state: JobState, outcome: JobState) -> None:
    bring(ledger, "j", a, state)
    allowed = outcome in TRANSITIONS[state]
    assert bool(ledger.ownership.finish("j", a, [attempt(outcome)])) is allowed
    assert ledger.queries.get("j").state is (outcome if allowed else state)


WRITES: dict[str, Callable[[Ledger, str], object]] = {
    "move": lambda ledger, holder: ledger.ownership.move("j", holder, RUNNING, detail="mine"),
    "update": lambda ledger, holder: ledger.ownership.move("j", holder, PENDING, detail="mine"),
    "finish": lambda ledger, holder: ledger.ownership.finish("j", holder, [attempt(FAILED)], LOGS),
    "back_off": lambda ledger, holder: ledger.ownership.back_off("j", holder, [attempt(FAILED)], LOGS, 0, "mine")[0],
    "reported": lambda ledger, holder: ledger.ownership.mark_reported("j", holder),
    "release": lambda ledger, holder: ledger.ownership.release("j", holder),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_worker_that_lost_a_job_cannot_write_to_it(ledger: Ledger, a: str, b: str, write: Any) -> None:
    bring(ledger, "j", a, PENDING)
    crash(ledger, a)
    ledger.ownership.claim("j", b)
    before = ledger.queries.get("j")
    assert not write(ledger, a)
    assert ledger.queries.get("j") == before
    assert ledger.queries.logs("j", 1) is None
    assert ledger.maintenance.unowned(0) == []


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_nor_can_one_after_the_job_was_given_up(ledger: Ledger, a: str, write: Any) -> None:
    bring(ledger, "j", a, PENDING)
    ledger.ownership.release("j", a)
    before = ledger.queries.get("j")
    assert not write(ledger, a)
    assert ledger.queries.get("j") == before


# -- finishing -------------------------------------------------------------------------------------------------------


def test_an_outcome_is_written_in_one_step(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    attempts = [
        attempt(FAILED, 1, reason="task: non-zero exit (1)"),
        attempt(SUCCEEDED, 2, node="n1", started_at=NOON, finished_at=NOON + timedelta(seconds=5), reason="ä€😀"),
    ]
    assert ledger.ownership.finish("j", a, attempts, LOGS)
    record = ledger.queries.get("j")
    assert (record.state, record.attempts, record.node, record.detail) == (SUCCEEDED, tuple(attempts), "n1", "ä€😀")
    assert record.started_at == NOON
    assert ledger.queries.logs("j", 2) == LOGS
    assert ledger.queries.logs("j", 1) is None
    assert record.holder == a  # until it has been reported


def test_a_lost_reply_to_finish_is_repeated_and_recorded_once(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    attempts = [attempt(FAILED)]
    assert ledger.ownership.finish("j", a, attempts, LOGS)
    first = ledger.queries.get("j")
    assert ledger.ownership.finish("j", a, attempts, LOGS)
    assert ledger.queries.get("j") == first
    assert ledger.queries.counts()[FAILED] == 1


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_outcome_never_changes(ledger: Ledger, a: str, state: JobState) -> None:
    bring(ledger, "j", a, state)
    before = ledger.queries.get("j")
    for other in TERMINAL - {state}:
        assert not ledger.ownership.finish("j", a, [attempt(other)], LOGS)
    assert not ledger.ownership.move("j", a, RUNNING)
    assert ledger.ownership.back_off("j", a, [attempt(FAILED)], None, 0, "") == (False, "")
    assert ledger.submission.cancel("j", "too late") == (state, False)
    assert ledger.queries.get("j") == before
    assert ledger.queries.logs("j", 1) is None


def test_logs_and_record_expire_after_the_end(ledger: Ledger, a: str) -> None:
    mine = Ledger(ledger.client, ledger.prefix, ttl=1000)
    bring(mine, "j", a, RUNNING)
    mine.ownership.finish("j", a, [attempt()], LOGS)
    key = f"{ledger.prefix}:job:j"
    assert 0 < ledger.client.ttl(f"{ledger.prefix}:log:j:1") <= 1000
    assert ledger.client.ttl(key) == -1  # not before Celery has the result
    assert mine.ownership.mark_reported("j", a)
    assert 0 < ledger.client.ttl(key) <= 1000
    record = ledger.queries.get("j")
    assert (record.reported, record.holder) == (True, "")
    assert ledger.ownership.held_by(a) == set()
    assert not mine.ownership.mark_reported("j", a)


def test_logs_that_are_not_complete(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    logs = Logs((LogLine("", "stderr", b"\x00\xff\xed\xa0\x80"),), LogStatus.UNAVAILABLE, "the time is over")
    ledger.ownership.finish("j", a, [attempt(FAILED)], logs)
    assert ledger.queries.logs("j", 1) == logs


# -- the next attempt ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [LAUNCHING, PENDING, RUNNING])
def test_an_attempt_ends_and_another_follows(ledger: Ledger, a: str, b: str, state: JobState) -> None:
    bring(ledger, "j", a, state)
    first = attempt(FAILED, 1, node="n1")
    assert ledger.ownership.back_off("j", a, [first], LOGS, 0, "the next one in 0 s") == (True, "")
    record = ledger.queries.get("j")
    assert (record.state, record.holder, record.attempts) == (BACKOFF, "", (first,))
    assert (record.detail, record.attempt) == ("the next one in 0 s", 1)
    assert record.due_at is not None
    assert ledger.queries.logs("j", 1) == LOGS
    assert ledger.ownership.held_by(a) == set()
    assert ledger.maintenance.unowned(LONG) == ["j"]
    assert ledger.ownership.claim("j", b) == Claim(ClaimAction.LAUNCH, BACKOFF)
    record = ledger.queries.get("j")
    assert (record.state, record.attempt, record.holder, record.due_at) == (LAUNCHING, 2, b, None)
    assert record.attempts == (first,)
    assert ledger.ownership.move("j", b, PENDING)
    assert ledger.ownership.finish("j", b, [first, attempt(number=2)])
    assert [made.number for made in ledger.queries.get("j").attempts] == [1, 2]


def test_before_its_time_nobody_gets_it(ledger: Ledger, a: str, b: str) -> None:
    bring(ledger, "j", a, BACKOFF)
    assert ledger.ownership.claim("j", b).action is ClaimAction.EARLY
    assert ledger.maintenance.unowned(0) == []
    assert ledger.maintenance.reap() == []


def test_it_is_found_when_its_time_comes(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.ownership.back_off("j", a, [attempt(FAILED)], None, 0.05, "")
    eventually(lambda: ledger.maintenance.unowned(LONG) == ["j"], 10, "the next attempt to be due")
    assert ledger.maintenance.unowned(LONG) == []


def test_a_lost_reply_to_back_off(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    for _ in range(2):
        assert ledger.ownership.back_off("j", a, [attempt(FAILED)], None, LONG, "") == (True, "")
    assert ledger.queries.counts()[BACKOFF] == 1


def test_a_job_that_is_to_be_cancelled_gets_no_further_attempt(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.submission.cancel("j", "enough")
    assert ledger.ownership.back_off("j", a, [attempt(FAILED)], LOGS, 0, "") == (False, "enough")
    assert ledger.queries.get("j").state is RUNNING
    assert ledger.ownership.finish("j", a, [attempt(CANCELLED)])


# -- cancelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [QUEUED, BACKOFF])
def test_a_job_that_nobody_holds_is_cancelled_at_once(ledger: Ledger, a: str, b: str, state: JobState) -> None:
    bring(ledger, "j", a, state)
    before = ledger.queries.get("j")
    assert ledger.submission.cancel("j", "enough") == (state, True)
    record = ledger.queries.get("j")
    assert (record.state, record.cancel, record.detail) == (CANCELLED, "enough", "enough")
    assert record.attempts[:-1] == before.attempts
    last = record.attempts[-1]
    assert (last.number, last.state, last.cause, last.reason) == (0, CANCELLED, Cause.CANCELLED, "enough")
    assert last.finished_at is not None
    # A worker still has to bring the outcome to Celery, whether there is a message or not.
    assert ledger.maintenance.unowned(LONG) == ["j"]
    assert ledger.ownership.claim("j", b) == Claim(ClaimAction.REPLAY, CANCELLED)
    assert ledger.ownership.mark_reported("j", b)
    assert ledger.ownership.claim("j", a).action is ClaimAction.DONE


@pytest.mark.parametrize("state", [LAUNCHING, PENDING, RUNNING])
def test_the_holder_of_a_job_is_told_to_cancel_it(ledger: Ledger, a: str, state: JobState) -> None:
    bring(ledger, "j", a, state)
    with ledger.ownership.cancellations() as told:
        assert ledger.submission.cancel("j", "enough") == (state, False)
        assert told.next(10) == "j"
    assert ledger.queries.get("j").state is state
    assert ledger.ownership.cancel_reasons(["j", "other"]) == {"j": "enough"}


def test_the_first_reason_stays(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.submission.cancel("j", "first")
    ledger.submission.cancel("j", "second")
    assert ledger.ownership.cancel_reasons(["j"]) == {"j": "first"}


def test_a_cancellation_outlives_the_holder(ledger: Ledger, a: str, b: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.submission.cancel("j", "enough")
    crash(ledger, a)
    ledger.ownership.claim("j", b)
    assert ledger.queries.get("j").cancel == "enough"


def test_cancelling_twice_ends_the_job_once(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    answers = at_once(10, lambda n: ledger.submission.cancel("j", f"reason {n}"))
    assert [done for _, done in answers].count(True) == 1
    assert len(ledger.queries.get("j").attempts) == 1


def test_cancel_and_claim_at_once_agree(ledger: Ledger, a: str) -> None:
    for number in range(30):
        job = f"j{number}"
        ledger.submission.create(job, SPEC, "q")
        claim = partial(ledger.ownership.claim, job, a)
        cancel = partial(ledger.submission.cancel, job, "enough")
        claimed, (_, cancelled) = at_once(2, partial(lambda calls, n: calls[n](), (claim, cancel)))
        assert (claimed.action is ClaimAction.LAUNCH) != cancelled
        assert ledger.queries.get(job).cancel == "enough"


# -- leases ----------------------------------------------------------------------------------------------------------


def test_release_gives_a_job_to_whoever_comes(ledger: Ledger, a: str, b: str) -> None:
    bring(ledger, "j", a, RUNNING)
    assert ledger.ownership.release("j", a)
    assert ledger.ownership.held_by(a) == set()
    assert ledger.maintenance.unowned(LONG) == ["j"]
    assert ledger.ownership.claim("j", b) == Claim(ClaimAction.ADOPT, RUNNING)
    assert ledger.maintenance.unowned(0) == []


def test_a_lease_runs_out_by_itself(ledger: Ledger, b: str) -> None:
    assert ledger.maintenance.renew_lease("short", 0.05, {})
    bring(ledger, "j", "short", RUNNING)
    eventually(lambda: ledger.ownership.claim("j", b).action is ClaimAction.ADOPT, 10, "the lease to run out")


def test_a_lease_that_is_renewed_does_not_run_out(ledger: Ledger, a: str, b: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.maintenance.renew_lease(a, 60, {})
    assert ledger.maintenance.renew_lease(a, LONG, {})
    assert ledger.maintenance.reap() == []
    assert ledger.ownership.claim("j", b).action is ClaimAction.HELD


def test_a_worker_learns_that_its_lease_had_run_out(ledger: Ledger) -> None:
    assert ledger.maintenance.renew_lease("w", LONG, {}) is True
    assert ledger.maintenance.renew_lease("w", LONG, {}) is True
    crash(ledger, "w")
    assert ledger.maintenance.renew_lease("w", LONG, {}) is False
    assert ledger.maintenance.renew_lease("w", 0.01, {}) is True
    eventually(lambda: not ledger.queries.workers(), 10, "the lease to run out")
    assert ledger.maintenance.renew_lease("w", LONG, {}) is False  # whether or not somebody has noticed
    crash(ledger, "w")
    ledger.maintenance.reap()
    assert ledger.maintenance.renew_lease("w", LONG, {}) is False


def test_reaping_takes_the_jobs_of_the_dead_only(ledger: Ledger, a: str, b: str) -> None:
    for job, holder in (("dead-1", a), ("dead-2", a), ("live", b)):
        bring(ledger, job, holder, RUNNING)
    crash(ledger, a)
    assert sorted(ledger.maintenance.reap()) == ["dead-1", "dead-2"]
    assert [ledger.queries.get(job).holder for job in ("dead-1", "dead-2", "live")] == ["", "", b]
    assert ledger.ownership.held_by(a) == set()
    assert sorted(ledger.maintenance.unowned(LONG)) == ["dead-1", "dead-2"]
    assert ledger.maintenance.reap() == []


def test_jobs_of_dead_workers_are_taken_in_parts_until_none_is_left(ledger: Ledger, alive: Any) -> None:
    for holder in (alive("x"), alive("y")):
        for number in range(7):
            bring(ledger, f"{holder}{number}", holder, LAUNCHING)
        crash(ledger, holder)
    batches = [ledger.maintenance.reap(5) for _ in range(4)]
    assert [len(batch) for batch in batches] == [5, 5, 4, 0]
    assert len({job for batch in batches for job in batch}) == 14


def test_what_others_took_already_is_not_reaped(ledger: Ledger, a: str, b: str) -> None:
    bring(ledger, "j", a, RUNNING)
    crash(ledger, a)
    ledger.ownership.claim("j", b)
    assert ledger.maintenance.reap() == []
    assert ledger.queries.get("j").holder == b


def test_an_outcome_that_was_not_reported_is_reaped_too(ledger: Ledger, a: str, b: str) -> None:
    bring(ledger, "j", a, SUCCEEDED)
    crash(ledger, a)
    assert ledger.maintenance.reap() == ["j"]
    assert ledger.maintenance.unowned(LONG) == ["j"]
    assert ledger.ownership.claim("j", b).action is ClaimAction.REPLAY
    ledger.ownership.mark_reported("j", b)
    crash(ledger, b)
    assert ledger.maintenance.reap() == []


def test_what_workers_say_of_themselves(ledger: Ledger, a: str) -> None:
    ledger.maintenance.renew_lease("b", LONG, {"host": "n1", "pid": 5})
    bring(ledger, "j", "b", RUNNING)
    said = {worker["holder"]: worker for worker in ledger.queries.workers()}
    assert said["b"] == {"holder": "b", "jobs": 1, "host": "n1", "pid": 5}
    assert said[a]["jobs"] == 0
    crash(ledger, "b")
    assert [worker["holder"] for worker in ledger.queries.workers()] == [a]


# -- unowned jobs and lost messages ---------------------------------------------------------------------------------


def test_in_a_quiet_ledger_nothing_is_due(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.submission.create("in-time", JobSpec(image="a", deadline=LONG), "q")
    assert ledger.maintenance.due() == Due(False, False, False, False, False, False)
    crash(ledger, a)
    assert ledger.maintenance.due().reap
    assert ledger.maintenance.reap() == ["j"]
    assert ledger.maintenance.due() == Due(False, False, False, True, False, False)
    assert ledger.maintenance.unowned(LONG) == ["j"]
    assert ledger.maintenance.due() == Due(False, False, False, False, False, False)


def test_an_unowned_job_is_not_offered_twice_within_the_pause(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.ownership.release("j", a)
    assert ledger.maintenance.unowned(0.05) == ["j"]
    eventually(lambda: ledger.maintenance.unowned(LONG) == ["j"], 10, "the pause to be over")
    assert ledger.maintenance.unowned(LONG) == []


def test_unowned_jobs_in_batches(ledger: Ledger, a: str) -> None:
    for number in range(5):
        bring(ledger, f"j{number}", a, RUNNING)
        ledger.ownership.release(f"j{number}", a)
    assert ledger.maintenance.unowned(LONG, most=3) == ["j0", "j1", "j2"]
    assert ledger.maintenance.unowned(LONG, most=3) == ["j3", "j4"]


def test_an_unowned_job_whose_record_is_gone_is_forgotten(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.ownership.release("j", a)
    ledger.client.delete(f"{ledger.prefix}:job:j")
    ledger.maintenance.unowned(0)
    assert ledger.maintenance.unowned(0) == []


@pytest.mark.parametrize("field", ["expires", "deadline"])
def test_a_job_that_nobody_claims_in_its_time_is_over(ledger: Ledger, a: str, field: str) -> None:
    ledger.submission.create("late", JobSpec(image="a", **{field: 0.05}), "q")
    ledger.submission.create("in-time", JobSpec(image="a", **{field: LONG}), "q")
    ledger.submission.create("claimed", JobSpec(image="a", **{field: 0.05}), "q")
    ledger.ownership.claim("claimed", a)
    eventually(lambda: ledger.maintenance.due().end_overdue, 10, "its time to be over")
    eventually(lambda: ledger.maintenance.end_overdue() == ["late"], 10, "as above")
    assert ledger.maintenance.end_overdue() == []
    late = ledger.queries.get("late")
    assert (late.state, late.holder, late.reported) == (FAILED, "", False)
    assert [(x.number, x.cause) for x in late.attempts] == [(0, "expired" if field == "expires" else "deadline")]
    assert ledger.queries.get("in-time").state is QUEUED
    assert ledger.queries.get("claimed").state is LAUNCHING
    # Somebody has to tell Celery of it.
    assert ledger.maintenance.unowned(LONG) == ["late"]
    assert ledger.ownership.claim("late", a).action is ClaimAction.REPLAY


def test_jobs_that_nobody_can_end_do_not_stand_before_those_whose_time_is_over(ledger: Ledger) -> None:
    """Records that Redis has lost, and records of a newer version."""
    for number in range(3):
        ledger.submission.create(f"lost-{number}", JobSpec(image="a", expires=0.05), "q")
        ledger.client.delete(f"{ledger.prefix}:job:lost-{number}")
        ledger.submission.create(f"newer-{number}", JobSpec(image="a", expires=0.05), "q")
        ledger.client.hset(f"{ledger.prefix}:job:newer-{number}", "spec", '{"v": 99}')
    ledger.submission.create("late", JobSpec(image="a", expires=0.05), "q")
    ended: list[str] = []

    def end_some() -> list[str]:
        ended.extend(ledger.maintenance.end_overdue(most=2))
        return ended

    eventually(end_some, 10, "its turn")
    assert ended == ["late"]
    left = set(ledger.client.zrange(f"{ledger.prefix}:deadlines", 0, -1))
    assert left == {b"newer-%d" % number for number in range(3)}


def test_a_job_that_is_skipped_at_once_has_no_deadline(ledger: Ledger, a: str) -> None:
    bring(ledger, "first", a, FAILED)
    ledger.submission.create_many(
        [NewJob("second", JobSpec(image="a", deadline=LONG), "q", after=(("first", "success"),))]
    )
    assert ledger.queries.get("second").state is JobState.SKIPPED
    assert not ledger.client.exists(f"{ledger.prefix}:deadlines")


def test_a_job_that_waits_for_others_is_over_in_time_and_those_after_it_are_skipped(ledger: Ledger) -> None:
    ledger.submission.create("first", JobSpec(image="a"), "q")
    ledger.submission.create_many(
        [NewJob("second", JobSpec(image="a", deadline=0.05), "q", after=(("first", "success"),))]
    )
    ledger.submission.create_many([NewJob("third", JobSpec(image="a"), "q", after=(("second", "success"),))])
    assert ledger.queries.get("second").state is JobState.WAITING
    eventually(lambda: ledger.maintenance.end_overdue() == ["second"], 10, "its time to be over")
    assert [ledger.queries.get(i).state for i in ("first", "second", "third")] == [QUEUED, FAILED, JobState.SKIPPED]


# Which queues are empty; whether a younger job's message was received; which jobs' messages count as lost.
LOST_MESSAGES: list[tuple[list[str], bool, list[str]]] = [
    ([], False, []),
    (["other"], False, []),
    (["q"], False, ["old"]),
    ([], True, ["old"]),
    (["q"], True, ["old"]),
]


@pytest.mark.parametrize(("empty", "received", "lost"), LOST_MESSAGES)
def test_a_message_that_must_have_been_lost(
    ledger: Ledger, a: str, empty: list[str], received: bool, lost: list[str]
) -> None:
    ledger.submission.create("old", SPEC, "q")
    ledger.submission.create("young", SPEC, "q")
    if received:
        ledger.ownership.claim("young", a)
    else:
        ledger.submission.cancel("young", "not wanted")
    # With no margin at all, any younger message that has arrived shows that the older one is lost.
    assert ledger.maintenance.lost_messages("q", 0, LONG, empty="q" in empty) == lost


def test_an_older_message_says_nothing_about_a_younger_one(ledger: Ledger, a: str) -> None:
    ledger.submission.create("old", SPEC, "q")
    ledger.submission.create("young", SPEC, "q")
    ledger.ownership.claim("old", a)
    assert ledger.maintenance.lost_messages("q", 0, LONG) == []


def test_a_message_of_another_queue_says_nothing(ledger: Ledger, a: str) -> None:
    ledger.submission.create("old", SPEC, "q")
    ledger.submission.create("young", SPEC, "other")
    ledger.ownership.claim("young", a)
    assert ledger.maintenance.lost_messages("q", 0, LONG) == []


def test_within_the_margin_nothing_counts_as_lost(ledger: Ledger, a: str) -> None:
    ledger.submission.create("old", SPEC, "q")
    ledger.submission.create("young", SPEC, "q")
    ledger.ownership.claim("young", a)
    assert ledger.maintenance.lost_messages("q", LONG, 0, empty=True) == []


def test_a_lost_message_is_not_named_again_within_the_pause(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    assert ledger.maintenance.lost_messages("q", 0, 0.05, empty=True) == ["j"]
    assert ledger.maintenance.lost_messages("q", 0, LONG, empty=True) == []
    eventually(lambda: ledger.maintenance.lost_messages("q", 0, 0.05, empty=True) == ["j"], 10, "the pause to be over")


@pytest.mark.parametrize("state", [LAUNCHING, RUNNING, BACKOFF, FAILED])
def test_only_messages_of_queued_jobs_can_be_lost(ledger: Ledger, a: str, state: JobState) -> None:
    bring(ledger, "j", a, state)
    assert ledger.maintenance.lost_messages("q", 0, 0, empty=True) == []


# -- a ledger that came back older -----------------------------------------------------------------------------------


def test_a_lost_record_is_made_again_and_taken_over(ledger: Ledger, a: str) -> None:
    assert ledger.maintenance.restore("j", SPEC, "q", 2)
    record = ledger.queries.get("j")
    assert (record.state, record.spec, record.attempt, record.holder) == (PENDING, SPEC, 2, "")
    assert ledger.queries.ids() == ["j"]
    assert ledger.maintenance.unowned(LONG) == ["j"]
    assert ledger.ownership.claim("j", a) == Claim(ClaimAction.ADOPT, PENDING)


def test_a_record_that_is_there_is_never_overwritten(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    before = ledger.queries.get("j")
    assert not ledger.maintenance.restore("j", JobSpec(image="b"), "q", 5)
    assert ledger.queries.get("j") == before


def test_a_ledger_has_one_identity(ledger: Ledger) -> None:
    names = at_once(10, lambda _: ledger.maintenance.identity())
    assert len(set(names)) == 1
    assert Ledger(ledger.client, f"{ledger.prefix}x").maintenance.identity() != names[0]


# -- duties, lists, notices ------------------------------------------------------------------------------------------


def test_one_worker_at_a_time_has_a_duty(ledger: Ledger) -> None:
    assert ledger.maintenance.take_duty("sweep", "a", LONG)
    assert ledger.maintenance.take_duty("sweep", "a", LONG)
    assert not ledger.maintenance.take_duty("sweep", "b", LONG)
    assert ledger.maintenance.take_duty("another", "b", LONG)


def test_a_duty_passes_on_when_its_time_is_over(ledger: Ledger) -> None:
    assert ledger.maintenance.take_duty("sweep", "a", 0.05)
    eventually(lambda: ledger.maintenance.take_duty("sweep", "b", LONG), 10, "the duty to be free")
    assert not ledger.maintenance.take_duty("sweep", "a", LONG)


def test_of_many_one_gets_a_duty(ledger: Ledger) -> None:
    assert at_once(20, lambda n: ledger.maintenance.take_duty("sweep", f"h{n}", LONG)).count(True) == 1


def test_lists_and_counts(ledger: Ledger, a: str) -> None:
    states = [QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED, BACKOFF, LAUNCHING, PENDING]
    for number, state in enumerate(states):
        bring(ledger, f"j{number}", a, state)
    assert ledger.queries.ids() == [f"j{number}" for number in reversed(range(8))]
    assert ledger.queries.ids(limit=3) == ["j7", "j6", "j5"]
    assert ledger.queries.ids(limit=3, offset=6) == ["j1", "j0"]
    assert ledger.queries.ids(RUNNING) == ["j1"]
    assert ledger.queries.counts() == {**dict.fromkeys(states, 1), JobState.WAITING: 0, JobState.SKIPPED: 0}
    assert [record.id for record in ledger.queries.find(["j3", "nope", "j0"])] == ["j3", "j0"]
    assert ledger.queries.find([]) == []
    assert ledger.queries.ahead("j0", "q") == 0


def test_how_many_wait_in_front(ledger: Ledger, a: str) -> None:
    for number in range(4):
        ledger.submission.create(f"j{number}", SPEC, "q")
    assert [ledger.queries.ahead(f"j{number}", "q") for number in range(4)] == [0, 1, 2, 3]
    ledger.ownership.claim("j0", a)
    assert ledger.queries.ahead("j3", "q") == 2


def test_expired_records_leave_the_lists(ledger: Ledger, a: str) -> None:
    bring(ledger, "kept", a, RUNNING)
    for number, state in enumerate((QUEUED, SUCCEEDED, FAILED, CANCELLED)):
        bring(ledger, f"gone{number}", a, state)
        ledger.client.delete(f"{ledger.prefix}:job:gone{number}")
    assert ledger.maintenance.sweep() == 4
    assert ledger.maintenance.sweep() == 0
    assert ledger.queries.ids() == ["kept"]
    assert {state: count for state, count in ledger.queries.counts().items() if count} == {RUNNING: 1}


def test_old_jobs_that_go_on_do_not_keep_expired_ones_in_the_lists(ledger: Ledger, a: str) -> None:
    for number in range(3):
        bring(ledger, f"old{number}", a, RUNNING)
        bring(ledger, f"gone{number}", a, SUCCEEDED)
        ledger.client.delete(f"{ledger.prefix}:job:gone{number}")
    assert sorted(ledger.maintenance.expired(2)) == ["gone0", "gone1"]
    assert [ledger.maintenance.sweep(2) for _ in range(3)] == [2, 1, 0]
    assert sorted(ledger.queries.ids()) == ["old0", "old1", "old2"]


def test_outlines(ledger: Ledger, a: str) -> None:
    bring(ledger, "j", a, RUNNING)
    ledger.submission.create("new", SPEC, "q")
    ledger.ownership.back_off("j", a, [attempt(FAILED)], None, 0, "again")
    of_job, of_new = ledger.queries.outlines(["j", "nope", "new"])
    assert (of_job.id, of_job.state, of_job.terminal, of_job.late) == ("j", BACKOFF, False, False)
    assert of_job.ended == {1}
    assert (of_new.id, of_new.state, of_new.ended) == ("new", QUEUED, frozenset())
    assert of_job.updated_at == ledger.queries.get("j").updated_at.timestamp()


def test_a_holder_finds_what_it_is_to_cancel_until_it_has_seen_it(ledger: Ledger, a: str) -> None:
    for job_id in ("j", "k"):
        bring(ledger, job_id, a, RUNNING)
    ledger.submission.create("waits", SPEC, "q")
    for job_id in ("j", "k", "waits"):
        ledger.submission.cancel(job_id, "enough")
    assert sorted(ledger.ownership.cancellations_for(a)) == ["j", "k"]  # the one that nobody held is over
    ledger.ownership.acknowledge_cancellations(a, ["j"])
    assert ledger.ownership.cancellations_for(a) == ["k"]
    assert ledger.ownership.cancellations_for("another") == []


def test_sweeping_in_batches(ledger: Ledger) -> None:
    for number in range(5):
        ledger.submission.create(f"j{number}", SPEC, "q")
        ledger.client.delete(f"{ledger.prefix}:job:j{number}")
    assert [ledger.maintenance.sweep(2) for _ in range(4)] == [2, 2, 1, 0]


def test_every_transition_is_published(ledger: Ledger, a: str) -> None:
    ledger.submission.create("j", SPEC, "q")
    with ledger.queries.changes("j") as changes, ledger.queries.changes("other") as others:
        ledger.ownership.claim("j", a)
        ledger.ownership.move("j", a, PENDING, detail="no suitable node")
        ledger.ownership.move("j", a, PENDING, detail="preparing")
        ledger.ownership.back_off("j", a, [attempt(FAILED)], None, 0, "again")
        ledger.ownership.claim("j", a)
        ledger.ownership.finish("j", a, [attempt(FAILED, reason="why")])
        ledger.ownership.mark_reported("j", a)
        seen = [json.loads(changes.next(10) or "null") for _ in range(7)]
        assert changes.next(0) is None
        assert others.next(0) is None
    assert [(notice["id"], notice["state"], notice["detail"]) for notice in seen] == [
        ("j", "LAUNCHING", ""),
        ("j", "PENDING", "no suitable node"),
        ("j", "PENDING", "preparing"),
        ("j", "BACKOFF", "again"),
        ("j", "LAUNCHING", ""),
        ("j", "FAILED", "why"),
        ("j", "FAILED", ""),
    ]
    assert [notice.get("reported") for notice in seen] == [None] * 6 + [True]


def test_a_cancellation_before_the_launch_is_published(ledger: Ledger) -> None:
    ledger.submission.create("j", SPEC, "q")
    with ledger.queries.changes("j") as changes:
        ledger.submission.cancel("j", "enough")
        notice = json.loads(changes.next(10) or "null")
    assert (notice["state"], notice["detail"]) == ("CANCELLED", "enough")


# -- a Redis that does not answer, or refuses ------------------------------------------------------------------------


def test_a_url_that_is_none() -> None:
    with pytest.raises(SpecError, match="Redis URL"):
        connect("http://x")


def test_a_redis_that_is_away_and_comes_back(own_redis: Callable[..., OwnRedis]) -> None:
    server = own_redis(appendfsync="always")
    ledger = Ledger(connect(server.url, socket_timeout=1, socket_connect_timeout=1))
    ledger.maintenance.renew_lease("a", LONG, {})
    bring(ledger, "j", "a", RUNNING)
    server.kill()
    calls: list[Callable[[], object]] = [
        lambda: ledger.submission.create("k", SPEC, "q"),
        lambda: ledger.ownership.claim("j", "a"),
        lambda: ledger.queries.get("j"),
        lambda: ledger.ownership.finish("j", "a", [attempt()]),
        ledger.queries.counts,
        lambda: ledger.maintenance.take_duty("sweep", "a", 1),
        lambda: ledger.queries.changes("j").__enter__(),
    ]
    for call in calls:
        with pytest.raises(LedgerUnavailable) as caught:
            call()
        assert isinstance(caught.value, TemporaryError)
        assert isinstance(caught.value.__cause__, redis.RedisError)
    server.start()
    # The scripts are loaded again by themselves, and nothing is lost.
    assert ledger.queries.get("j").state is RUNNING
    assert ledger.ownership.finish("j", "a", [attempt()])


def test_a_redis_that_is_full_refuses_a_job_rather_than_forget_one(own_redis: Callable[..., OwnRedis]) -> None:
    server = own_redis()
    ledger = Ledger(connect(server.url))
    ledger.submission.create("j", SPEC, "q")
    ledger.client.config_set("maxmemory", "1")
    with pytest.raises(LedgerUnavailable, match="the new job: Redis refuses"):
        ledger.submission.create("k", SPEC, "q")
    assert ledger.queries.ids() == ["j"]
    assert ledger.queries.find(["k"]) == []
    ledger.client.config_set("maxmemory", "0")
    assert ledger.submission.create("k", SPEC, "q")


def test_connections_that_are_cut_are_made_again(own_redis: Callable[..., OwnRedis]) -> None:
    server = own_redis()
    ledger, other = Ledger(connect(server.url)), connect(server.url)
    ledger.submission.create("j", SPEC, "q")
    other.client_kill_filter(_type="normal", skipme=True)
    assert ledger.queries.get("j").state is QUEUED


def test_a_script_that_redis_has_forgotten_is_loaded_again(own_redis: Callable[..., OwnRedis]) -> None:
    ledger = Ledger(connect(own_redis().url))
    ledger.submission.create("j", SPEC, "q")
    ledger.client.script_flush()
    assert ledger.submission.create("k", SPEC, "q")
