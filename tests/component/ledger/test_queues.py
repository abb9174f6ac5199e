"""Rules of queues, and the jobs that are kept because of them, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis.exceptions

from jaas_submit import Client
from jaas_submit.access.acl import rules_of
from jaas_submit.access.roles import Installation, Role, grants_of
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.connection import as_text, connect
from jaas_submit.errors import LedgerUnavailable, QueueClosed, QueueInUse, SpecError, UnknownQueue
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import Attempt
from jaas_submit.model.states import JobState
from jaas_submit.queues.rules import QueueRules
from tests.support.wait import eventually

SPEC = JobSpec(image="a")
LONG = 3600.0
MORE = ("deadlines", "unowned", "ready", "after:*")
"""Keys that a producer needs for a cancellation."""
ME = "me@here"


@pytest.fixture
def queue(ledger: Ledger) -> str:
    """A queue with a live worker, named as no other test's lists are."""
    name = f"{ledger.prefix}-q"
    ledger.maintenance.renew_lease("w", LONG, {"holder": "w"})
    ledger.queues.ensure(name)
    return name


def pause(ledger: Ledger, queue: str, paused: bool | None = True) -> None:
    ledger.queues.change(queue, {"paused": paused}, "pause" if paused else "resume", ME)


def submit(ledger: Ledger, queue: str, *job_ids: str) -> None:
    for job_id in job_ids:
        ledger.submission.create(job_id, SPEC, queue)


def kept(ledger: Ledger, queue: str) -> list[str]:
    return [as_text(one) for one in ledger.client.zrange(f"{ledger.prefix}:kept:queue:{queue}", 0, -1)]


def back_off(ledger: Ledger, job_id: str) -> None:
    """Let an attempt of a job end; the next one is due at once."""
    assert ledger.ownership.claim(job_id, "w").action is ClaimAction.LAUNCH
    assert ledger.ownership.move(job_id, "w", JobState.PENDING)
    failed = Attempt(number=1, state=JobState.FAILED, cause=Cause.EXIT, exit_code=1)
    assert ledger.ownership.back_off(job_id, "w", [failed], None, 0.0, "again")[0]


# -- paused -----------------------------------------------------------------------------------------------------------


def test_nothing_of_a_paused_queue_is_claimed_and_what_runs_goes_on(ledger: Ledger, queue: str) -> None:
    submit(ledger, queue, "runs", "new")
    submit(ledger, "other", "free")
    assert ledger.ownership.claim("runs", "w").action is ClaimAction.LAUNCH
    pause(ledger, queue)
    assert ledger.ownership.claim("new", "w").action is ClaimAction.KEPT
    assert ledger.ownership.claim("new", "w").action is ClaimAction.KEPT, "a duplicate of its message"
    assert ledger.ownership.claim("free", "w").action is ClaimAction.LAUNCH
    assert ledger.ownership.move("runs", "w", JobState.PENDING)
    record = ledger.queries.get("new")
    assert (record.state, record.holder) == (JobState.QUEUED, "")
    assert kept(ledger, queue) == ["new"]
    assert not any(ledger.maintenance.due()), "no worker looks for it"


def test_kept_jobs_are_ready_in_the_order_of_their_submission_when_the_queue_is_resumed(
    ledger: Ledger, queue: str
) -> None:
    submit(ledger, queue, "c", "a", "b")
    pause(ledger, queue)
    for job_id in ("b", "a", "c"):
        ledger.ownership.claim(job_id, "w")
    with ledger.maintenance.available() as notices:
        pause(ledger, queue, None)
        assert {notices.next(5), notices.next(5)} == {"opened", "rules"}
    assert ledger.maintenance.ready(60) == ["c", "a", "b"]
    assert ledger.ownership.claim("a", "w").action is ClaimAction.LAUNCH
    assert "kept_at" not in (ledger.client.hgetall(f"{ledger.prefix}:job:a") or {})


def test_the_next_attempt_waits_too_and_keeps_its_number(ledger: Ledger, queue: str) -> None:
    submit(ledger, queue, "j")
    back_off(ledger, "j")
    pause(ledger, queue)
    assert ledger.maintenance.unowned(60) == ["j"]
    assert ledger.ownership.claim("j", "w").action is ClaimAction.KEPT
    assert ledger.queries.get("j").state is JobState.BACKOFF
    pause(ledger, queue, None)
    assert ledger.maintenance.unowned(60) == ["j"]
    assert ledger.ownership.claim("j", "w").action is ClaimAction.LAUNCH
    assert ledger.queries.get("j").attempt == 2


def test_a_kept_job_can_be_cancelled_and_leaves_nothing(ledger: Ledger, queue: str) -> None:
    submit(ledger, queue, "j")
    pause(ledger, queue)
    ledger.ownership.claim("j", "w")
    assert ledger.submission.cancel("j", "no more") == (JobState.QUEUED, True)
    assert kept(ledger, queue) == []
    assert ledger.ownership.claim("j", "w").action is ClaimAction.REPLAY, "its end is reported"


def test_what_ends_anyway_does_not_wait_for_the_queue(ledger: Ledger, queue: str) -> None:
    pause(ledger, queue)
    ledger.submission.create("invalid", None, queue)
    assert ledger.ownership.claim("invalid", "w").action is ClaimAction.LAUNCH, "it is refused with its reason"
    ledger.submission.revoke("foreign")
    ledger.submission.create("foreign", SPEC, queue, message="a message")
    assert ledger.ownership.claim("foreign", "w").action is ClaimAction.LAUNCH, "it is cancelled"


def test_many_kept_jobs_go_on_in_parts_unless_the_queue_is_paused_again(
    ledger: Ledger, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaas_submit.ledger.queues.rules.OPENED_AT_ONCE", 2)
    names = [f"j{number}" for number in range(7)]
    submit(ledger, queue, *names)
    pause(ledger, queue)
    for name in names:
        ledger.ownership.claim(name, "w")
    pause(ledger, queue, None)
    assert ledger.maintenance.due().opening, "whoever resumed may have died: workers go on"
    assert ledger.queues.open_more(3)
    pause(ledger, queue)
    assert not ledger.queues.open_more(3)
    assert len(kept(ledger, queue)) == 2
    assert not ledger.maintenance.due().opening
    pause(ledger, queue, None)
    assert kept(ledger, queue) == []
    assert not ledger.maintenance.due().opening
    assert ledger.maintenance.ready(60) == names


def test_no_message_of_a_paused_queue_counts_as_lost(ledger: Ledger, queue: str) -> None:
    submit(ledger, queue, "waits", "is-kept")
    pause(ledger, queue)
    ledger.ownership.claim("is-kept", "w")
    assert ledger.maintenance.lost_messages(queue, 0, 0, empty=True) == []
    pause(ledger, queue, None)
    assert ledger.maintenance.lost_messages(queue, 0, 0, empty=True) == ["waits", "is-kept"]


def test_the_deadline_of_a_kept_attempt_holds(ledger: Ledger, queue: str) -> None:
    for job_id, deadline in (("over", 1.0), ("later", LONG), ("none", None)):
        ledger.submission.create(job_id, JobSpec(image="a", deadline=deadline), queue)
        back_off(ledger, job_id)
    pause(ledger, queue)
    for job_id in ("over", "later", "none"):
        assert ledger.ownership.claim(job_id, "w").action is ClaimAction.KEPT
    eventually(lambda: ledger.maintenance.end_overdue() == ["over"], 10, "its time to be over")
    record = ledger.queries.get("over")
    assert (record.state, [one.cause for one in record.attempts]) == (JobState.FAILED, [Cause.EXIT, Cause.DEADLINE])
    assert kept(ledger, queue) == ["later", "none"]
    assert ledger.client.zrange(f"{ledger.prefix}:deadlines", 0, -1) == [b"later"]
    pause(ledger, queue, None)
    assert ledger.ownership.claim("later", "w").action is ClaimAction.LAUNCH
    assert ledger.client.zcard(f"{ledger.prefix}:deadlines") == 0


def test_a_place_that_holds_something_else_is_made_anew(ledger: Ledger, queue: str) -> None:
    place = f"{ledger.prefix}:kept:queue:{queue}"
    submit(ledger, queue, "j")
    pause(ledger, queue)
    ledger.client.set(place, "something else")
    assert ledger.ownership.claim("j", "w").action is ClaimAction.KEPT
    assert kept(ledger, queue) == ["j"]
    ledger.client.delete(place)
    ledger.client.set(place, "something else")
    pause(ledger, queue, None)
    assert not ledger.maintenance.due().opening
    assert ledger.client.exists(place) == 0


# -- draining ---------------------------------------------------------------------------------------------------------


def test_a_draining_queue_takes_no_new_jobs_and_starts_those_that_wait(ledger: Ledger, queue: str) -> None:
    ledger.submission.create_once("j", SPEC, queue, key="k")
    ledger.queues.change(queue, {"draining": True}, "drain", ME)
    with pytest.raises(QueueClosed, match=rf"^queue: {queue} is draining .*jaas queue resume {queue}"):
        submit(ledger, queue, "new")
    assert ledger.queries.existing(["new"]) == set()
    assert ledger.submission.create_once("other", SPEC, queue, key="k") == "j", "it is there already"
    assert ledger.ownership.claim("j", "w").action is ClaimAction.LAUNCH
    foreign = NewJob("foreign", SPEC, queue, message="a message")
    assert ledger.submission.take_in(foreign, "tag", 60).new, "its producer cannot be told"
    ledger.queues.change(queue, {"draining": None}, "resume", ME)
    submit(ledger, queue, "new")


def test_no_batch_is_written_or_opened_for_a_draining_queue(ledger: Ledger, queue: str, redis_url: str) -> None:
    with Client(redis_url, queue=queue, prefix=ledger.prefix) as client:
        batch = client.map(SPEC, ["a"], key="k")
        ledger.submission.cancel(batch.job(0).id, "no more")
        ledger.queues.change(queue, {"draining": True}, "drain", ME)
        assert client.map(SPEC, ["a"], key="k").id == batch.id, "it is there already"
        for refused in (
            partial(client.map, SPEC, ["b"]),
            partial(client.map, SPEC, ["b"], key="other"),
            partial(client.map, SPEC, ["a", "b"], key="k"),
            batch.retry_failed,
        ):
            with pytest.raises(QueueClosed):
                refused()
        assert [one.id for one in ledger.batches.recent()] == [batch.id]
        assert batch.status.done


# -- names, values, audit ---------------------------------------------------------------------------------------------


def test_who_changed_a_queue_is_kept(ledger: Ledger) -> None:
    ledger.queues.create("crawl", {"priority": 9, "owner": "web", "wait_limits": {"capacity": 60}}, ME)
    with pytest.raises(SpecError, match=r"^name: there is a queue crawl"):
        ledger.queues.create("crawl", {}, ME)
    ledger.queues.change("crawl", {"priority": None, "weight": 2.5}, "set", ME)
    pause(ledger, "crawl")
    found = ledger.queues.get("crawl")
    assert found.rules == QueueRules(weight=2.5, paused=True, wait_limits={"capacity": 60})  # type: ignore[dict-item] # a text is as good as the code
    assert found.owner == "web"
    assert [(one.what, one.by) for one in found.audit] == [("create", ME), ("set", ME), ("pause", ME)]
    assert found.audit[1].detail == "priority=null, weight=2.5"
    assert ledger.queues.names() == ["crawl"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prio": 1}, "prio"),
        ({"priority": 256}, "priority"),
        ({"weight": 0}, "weight"),
        ({"max_in_flight": -1}, "max_in_flight"),
        ({"max_in_flight": 1_000_000_001}, "max_in_flight"),
        ({"paused": 1}, "paused"),
        ({"wait_limits": 5}, "wait_limits"),
        ({"wait_limits": {"boredom": 5}}, "wait_limits"),
        ({"owner": "x" * 129}, "owner"),
    ],
)
def test_a_wrong_value_is_one_sentence_and_changes_nothing(ledger: Ledger, values: dict[str, Any], field: str) -> None:
    ledger.queues.ensure("q")
    with pytest.raises(SpecError, match=f"^{field}: ") as caught:
        ledger.queues.change("q", values, "set", ME)
    assert caught.value.field == field
    assert ledger.queues.get("q").audit == ()


def test_a_name_that_nobody_has_made_is_named(ledger: Ledger) -> None:
    with pytest.raises(UnknownQueue, match=r"there is no queue nope; `jaas queue create nope` makes it"):
        pause(ledger, "nope")
    with pytest.raises(UnknownQueue):
        ledger.queues.get("nope")
    assert not ledger.queues.is_paused("nope")


def test_what_can_be_read_of_rules_holds(ledger: Ledger, queue: str) -> None:
    ledger.queues.change(queue, {"paused": True}, "pause", ME)
    ledger.client.hset(f"{ledger.prefix}:rule_changes", f"queue:{queue}", "{")
    assert ledger.queues.get(queue).rules == QueueRules(paused=True), "whatever its audit is"
    ledger.client.hset(f"{ledger.prefix}:queues", queue, '{"paused": true, "draining": 1, "max_in_flight": 1e+15}')
    assert ledger.queues.get(queue).rules == QueueRules(paused=True)
    assert f"queue {queue}" in ledger.unreadable


@pytest.mark.parametrize("stored", ["{", "[]", '{"priority": "high"}', "x" * 70_000])
def test_what_cannot_be_read_holds_no_job_and_is_named(ledger: Ledger, queue: str, stored: str) -> None:
    ledger.client.hset(f"{ledger.prefix}:queues", queue, stored)
    assert ledger.queues.get(queue).rules == QueueRules()
    assert f"queue {queue}" in ledger.unreadable
    submit(ledger, queue, "j")
    assert ledger.ownership.claim("j", "w").action is ClaimAction.LAUNCH


# -- delete -----------------------------------------------------------------------------------------------------------


def test_a_queue_is_deleted_when_nothing_needs_it(ledger: Ledger, queue: str) -> None:
    def refusal() -> str:
        with pytest.raises(QueueInUse) as caught:
            ledger.queues.delete(queue, [queue])
        return str(caught.value)

    submit(ledger, queue, "j")
    assert "takes new jobs" in refusal()
    ledger.queues.change(queue, {"draining": True}, "drain", ME)
    assert "such as j" in refusal()
    ledger.submission.cancel("j", "no more")
    ledger.client.lpush(queue, "a foreign message")
    assert "has 1 jobs that wait" in refusal()
    ledger.client.delete(queue)
    ledger.maintenance.renew_lease("w", LONG, {"holder": "w", "queue": queue})
    assert "has a worker (w)" in refusal()
    ledger.maintenance.drop_lease("w")
    ledger.queues.delete(queue, [queue])
    assert ledger.queues.names() == []
    with pytest.raises(UnknownQueue):
        ledger.queues.delete(queue, [queue])


# -- users of Redis ---------------------------------------------------------------------------------------------------


@pytest.fixture
def as_role(ledger: Ledger, queue: str) -> Iterator[Any]:
    """Return ledgers of users with a role."""
    admin: Any = ledger.client  # redis-py leaves execute_command untyped
    at = ledger.client.connection_pool.connection_kwargs
    clients, users = [], []

    def make(role: Role) -> Ledger:
        name = f"{ledger.prefix}-{role}"
        rules = rules_of(grants_of(role, Installation(ledger.prefix, [queue])), (7, 0))
        admin.execute_command("ACL", "SETUSER", name, "on", ">p", *rules)
        users.append(name)
        client = connect(f"redis://{name}:p@{at['host']}:{at['port']}/{at.get('db', 0)}")
        clients.append(client)
        return Ledger(client, ledger.prefix)

    yield make
    for client in clients:
        client.close()
    for name in users:
        admin.execute_command("ACL", "DELUSER", name)


def test_a_producer_reads_rules_and_an_operator_changes_them(ledger: Ledger, queue: str, as_role: Any) -> None:
    producer, operator = as_role(Role.PRODUCER), as_role(Role.OPERATOR)
    with pytest.raises(LedgerUnavailable, match="Redis refuses"):
        pause(producer, queue)
    submit(producer, queue, "j")
    pause(operator, queue)
    assert producer.queues.is_paused(queue)
    ledger.ownership.claim("j", "w")
    pause(operator, queue, None)
    assert kept(ledger, queue) == []
    operator.queues.change(queue, {"draining": True}, "drain", ME)
    with pytest.raises(QueueClosed):
        submit(producer, queue, "new")
    pause(operator, queue)
    ledger.ownership.claim("j", "w")
    producer.submission.cancel("j", "no more")
    assert kept(ledger, queue) == []
    operator.queues.delete(queue, [queue])


def test_without_the_right_to_read_rules_a_producer_submits_as_before(ledger: Ledger, queue: str, as_role: Any) -> None:
    producer = as_role(Role.PRODUCER)
    admin: Any = ledger.client
    keys = [f"~{ledger.prefix}:{name}" for name in ("job:*", "jobs", "state:*")]
    admin.execute_command("ACL", "SETUSER", f"{ledger.prefix}-{Role.PRODUCER}", "resetkeys", *keys)
    submit(producer, queue, "j")
    assert ledger.queries.get("j").state is JobState.QUEUED
    pause(ledger, queue)
    ledger.ownership.claim("j", "w")
    admin.execute_command(
        "ACL", "SETUSER", f"{ledger.prefix}-{Role.PRODUCER}", *(f"~{ledger.prefix}:{name}" for name in MORE)
    )
    assert producer.submission.cancel("j", "no more") == (JobState.QUEUED, True)
    assert ledger.queries.get("j").state is JobState.CANCELLED
    producer.queues.check_takes_jobs(queue)
    with pytest.raises(redis.exceptions.NoPermissionError):
        producer.client.hget(f"{ledger.prefix}:queues", queue)
