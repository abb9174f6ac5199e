"""Unreadable records: each is skipped and logged, and everything continues with the rest."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable
from typing import Any

import click.testing
import pytest

from jaas_submit import Client
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.cli.main import cli
from jaas_submit.errors import LedgerUnavailable, UnknownJob, UnreadableRecord
from jaas_submit.explain.context import explain_context
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.ledger.base import UNREADABLE
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import Attempt
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.states import JobState
from jaas_worker.maintenance.reconciler import Reconciler
from jaas_worker.settings import Settings
from jaas_worker.telemetry.log_actions import Action
from tests.support.fake_swarm import FakeSwarm
from tests.support.maintained import MaintainedWorker

SPEC = JobSpec(image="a")
LONG = 3600.0
GOOD = Attempt(number=1, state=JobState.SUCCEEDED, cause=Cause.EXIT, exit_code=0)

FIELDS: dict[str, dict[Any, Any]] = {
    "attempts not JSON": {"attempts": "[{"},
    "attempts deep": {"attempts": "[" * 100_000},
    "attempts of another kind": {"attempts": '{"a": 1}'},
    "an attempt that is none": {"attempts": '[{"number": "x"}]'},
    "created_at a word": {"created_at": "x"},
    "created_at out of range": {"created_at": "1e300"},
    "created_at endless": {"created_at": "inf"},
    "updated_at not a number": {"updated_at": "nan"},
    "attempt huge": {"attempt": "9" * 5000},
    "attempt a word": {"attempt": "x"},
    "index a word": {"index": "²"},
    "output not JSON": {"output": "{"},
    "after of another kind": {"after": "[1]"},
    "after half a character": {"after": '[["\\ud800", "success"]]'},
    "after too long": {"after": '[["a", "b", "c"]]'},
}
"""Fields that make a record unreadable."""


def spoil(ledger: Ledger, job_id: str, how: str) -> str:
    """Make a record unreadable; a way that is not among the fields replaces it."""
    key = ledger.key("job", job_id)
    if how in FIELDS:
        ledger.client.hset(key, mapping=FIELDS[how])
    elif how == "no state":
        ledger.client.hdel(key, "state")
    else:
        ledger.client.delete(key)
        if how == "a string":
            ledger.client.set(key, 1)
        elif how == "a list":
            ledger.client.rpush(key, "x")
        else:
            ledger.client.zadd(key, {"x": 1})
    return job_id


KINDS = ["a string", "a list", "a sorted set"]
WRITTEN_BY_A_CLAIM = {"no state", "updated_at not a number", "attempt huge", "attempt a word"}
WAYS = [*KINDS, "no state", *FIELDS]


@pytest.fixture
def holder(ledger: Ledger) -> str:
    ledger.maintenance.renew_lease("h", LONG, {"node": "n"})
    return "h"


@pytest.fixture
def named(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the ids that the log names as unreadable."""
    caplog.set_level(logging.WARNING)
    return lambda: [vars(r).get("job_id", "") for r in caplog.records if getattr(r, "action", "") == UNREADABLE]


class Worker(MaintainedWorker):
    """A reconciler, and what it takes."""

    def __init__(self, ledger: Ledger, engine: FakeSwarm | None = None) -> None:
        super().__init__(ledger.queries.get, messages=0)
        self.reconciler = Reconciler(
            Settings(redis_url="redis://unused", queue="q", republish_after=1),
            ledger,
            engine or FakeSwarm(),
            "w",
            "x=y",
            self,
        )


def test_the_log_s_action_is_the_worker_s() -> None:
    assert str(Action.RECORD_UNREADABLE) == UNREADABLE


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
def test_a_record_that_cannot_be_read_does_not_hide_the_others(
    ledger: Ledger, how: str, named: Callable[[], list[str]]
) -> None:
    for job_id in ("a", "b", "c"):
        ledger.submission.create(job_id, SPEC, "q")
    spoil(ledger, "b", how)
    assert [record.id for record in ledger.queries.find(["a", "b", "c"])] == ["a", "c"]
    assert [record.id for record in ledger.queries.find(["b", "c"])] == ["c"]
    assert list(ledger.unreadable) == ["job b"]
    with pytest.raises(UnreadableRecord, match=r"^job b: what Redis holds of it cannot be read: .{5,120}$"):
        ledger.queries.get("b")
    assert named() == ["b"]  # once
    ledger.queries.outlines(["a", "b", "c"])
    ledger.client.delete(ledger.key("job", "b"))
    with pytest.raises(UnknownJob):
        ledger.queries.get("b")
    assert ledger.unreadable == {}


def test_bytes_that_are_no_text_are_shown(ledger: Ledger) -> None:
    ledger.submission.create("a", SPEC, "q")
    ledger.client.hset(ledger.key("job", "a"), mapping={"detail": b"\xff", b"\xfe": b"\xfd", "state": "ODD"})
    record = ledger.queries.get("a")
    assert (record.detail, str(record.state)) == ("\\xff", "ODD")
    ids: dict[Any, float] = {b"\xff": 1, "": 2, "x" * 10_000: 3}
    ledger.client.zadd(ledger.key("jobs"), ids)
    assert len(ledger.queries.find(ledger.queries.ids())) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("created_at", "x"), ("n:RUNNING", "x"), ("total", "1e9"), ("size", "9" * 50), ("min_success", "nan"),
     ("max_parallel", "inf"), ("speculate", "{"), ("", "")],
)  # fmt: skip
def test_a_batch_that_cannot_be_read_does_not_hide_the_others(ledger: Ledger, field: str, value: str) -> None:
    for batch_id in ("a", "b"):
        ledger.batches.create(batch_id)
    key = ledger.key("batch", "a")
    if field:
        ledger.client.hset(key, field, value)
    else:
        ledger.client.delete(key)
        ledger.client.set(key, 1)
    assert [batch.id for batch in ledger.batches.recent()] == ["b"]
    with pytest.raises(UnreadableRecord, match="batch a: what Redis holds of it cannot be read"):
        ledger.batches.get("a")
    assert list(ledger.unreadable) == ["batch a"]


@pytest.mark.parametrize(
    "data", [b"x", zlib.compress(b"{"), zlib.compress(b'{"lines": [1]}'), zlib.compress(b"[" * 10**6), 7]
)
def test_a_log_that_cannot_be_read_is_said_to_be(ledger: Ledger, data: Any) -> None:
    key = ledger.key("log", "a", 1)
    if data == 7:
        ledger.client.rpush(key, "x")
    else:
        ledger.client.set(key, data)
    found = ledger.queries.logs("a", 1)
    assert found is not None
    assert found.status is LogStatus.UNAVAILABLE
    assert "cannot be read" in found.reason
    assert len(found.reason) < 200


def test_a_log_that_unpacks_to_too_much_is_not_unpacked() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(300)) + packer.flush()
    with pytest.raises(ValueError, match="no log of jaas"):
        Logs.unpack(bomb)


@pytest.mark.parametrize(
    "info", ["{", "[]", "1", '{"node": 1}', '{"max_in_flight": "x"}', '{"clock_ahead": 1e999}', "[" * 50_000, b"\xff"]
)
def test_a_worker_whose_words_cannot_be_read_is_listed_all_the_same(ledger: Ledger, holder: str, info: Any) -> None:
    ledger.maintenance.renew_lease("odd", LONG, {})
    ledger.client.set(ledger.key("info", "odd"), info)
    ledger.client.set(ledger.key("held", "odd"), 1)
    found = {worker["holder"]: worker for worker in ledger.queries.workers()}
    assert found["odd"] == {"holder": "odd", "jobs": 0}
    assert found["h"]["node"] == "n"
    assert list(ledger.unreadable) == ["worker odd"]
    ledger.submission.create("a", SPEC, "q")
    assert len(explain_context(ledger, ledger.queries.get("a")).workers) == 2


def test_nodes_that_cannot_be_read_are_none(ledger: Ledger) -> None:
    ledger.client.set(ledger.key("cluster"), '{"at": "x"}')
    assert ledger.queries.cluster() is None
    ledger.client.delete(ledger.key("cluster"))
    ledger.client.rpush(ledger.key("cluster"), "x")
    assert ledger.queries.cluster() is None


def test_indexes_of_another_kind_count_as_empty_and_are_named(ledger: Ledger) -> None:
    ledger.submission.create("a", SPEC, "q")
    for name in ("holders", "due", "unowned", "ready", "deadlines", "pending_dependents", "state:RUNNING"):
        ledger.client.set(ledger.key(name), 1)
    assert not any(ledger.maintenance.due())
    assert ledger.queries.counts()[JobState.QUEUED] == 1
    assert ledger.queries.counts()[JobState.RUNNING] == 0
    assert ledger.queries.counts_and_ages()[JobState.RUNNING] == (0, 0.0)
    assert ledger.queries.active() == ["a"]
    assert f"key {ledger.key('unowned')}" in ledger.unreadable
    assert (
        ledger.maintenance.reap(),
        ledger.maintenance.unowned(0.0),
        ledger.maintenance.ready(0.0),
        ledger.maintenance.end_overdue(),
    ) == ([], [], [], [])
    assert ledger.maintenance.release_dependents() is False


def test_infinite_scores_do_no_harm(ledger: Ledger, holder: str) -> None:
    ledger.submission.create("a", SPEC, "q")
    ledger.client.zadd(ledger.key("state", "QUEUED"), {"a": "-inf", "b": "inf"})
    ledger.client.zadd(ledger.key("state", "RUNNING"), {"a": "-inf"})
    assert ledger.queries.counts_and_ages()[JobState.QUEUED] == (2, 0.0)
    assert ledger.batches.running_jobs(["x"]) == {"x": {}}
    assert ledger.ownership.claim("a", holder).action is ClaimAction.LAUNCH


# -- scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_scripts_that_look_at_many_pass_over_what_is_no_record(ledger: Ledger, kind: str) -> None:
    for job_id in ("bad", "good"):
        ledger.submission.create(job_id, SPEC, "q")
    spoil(ledger, "bad", kind)
    now = ledger.now()
    for index in ("due", "ready", "deadlines"):
        ledger.client.zadd(ledger.key(index), {"bad": 0, "good": now})
    assert ledger.maintenance.ready(LONG) == ["good"]
    assert ledger.maintenance.end_overdue() == []
    ledger.maintenance.renew_lease("gone", 60, {})
    ledger.client.zadd(ledger.key("holders"), {"gone": 0})
    ledger.client.sadd(ledger.key("held", "gone"), "bad", "good")
    ledger.client.hset(ledger.key("job", "good"), mapping={"holder": "gone", "state": "RUNNING"})
    assert ledger.maintenance.reap() == ["good"]
    assert sorted(ledger.maintenance.unowned(LONG)) == ["bad", "good"]  # to be named
    assert ledger.maintenance.unowned(0.0) == []  # not again for an hour
    assert ledger.maintenance.sweep() == 0


def test_a_lost_message_behind_a_record_that_is_none_is_found(ledger: Ledger) -> None:
    for job_id in ("bad", "odd", "good"):
        ledger.submission.create(job_id, SPEC, "q")
    spoil(ledger, "bad", "a string")
    spoil(ledger, "odd", "created_at a word")
    assert "good" in ledger.maintenance.lost_messages("q", -1, 0, empty=True)
    assert "good" not in ledger.maintenance.lost_messages("q", -1, 0)


@pytest.mark.parametrize("newest", ["x", "inf", None])
def test_what_was_received_last_stops_no_claim(ledger: Ledger, holder: str, newest: str | None) -> None:
    key = ledger.key("newest_received")
    if newest is None:
        ledger.client.set(key, 1)
    else:
        ledger.client.hset(key, "q", newest)
    ledger.submission.create("a", SPEC, "q")
    assert ledger.ownership.claim("a", holder).action is ClaimAction.LAUNCH


def test_a_record_that_says_nothing_of_a_holder_is_claimed(ledger: Ledger, holder: str) -> None:
    ledger.submission.create_many([NewJob("j", SPEC, "q")])
    ledger.client.hdel(ledger.key("job", "j"), "holder")

    assert ledger.ownership.claim("j", holder).action is ClaimAction.LAUNCH


def test_a_time_from_the_future_is_not_taken_for_what_was_received_last(ledger: Ledger, holder: str) -> None:
    ledger.submission.create("a", SPEC, "q")
    ledger.client.hset(ledger.key("job", "a"), "created_at", "9e9")
    ledger.ownership.claim("a", holder)
    assert not ledger.client.hget(ledger.key("newest_received"), "q")


@pytest.mark.parametrize("entry", ["x", "{}", "[1, 2]", '["a"]', '["a", "SUCCEEDED", null]', "[[[]]]", "1", b"\xff"])
def test_an_entry_that_cannot_be_read_does_not_stop_what_comes_after_ended_jobs(
    ledger: Ledger, holder: str, entry: Any
) -> None:
    ledger.submission.create("first", SPEC, "q")
    ledger.submission.create_many([NewJob("second", SPEC, "q", after=(("first", "success"),))])
    ledger.client.rpush(ledger.key("pending_dependents"), entry)
    ledger.client.sadd(ledger.key("after", "first"), "no dependency", "bad|success")
    spoil(ledger, "bad", "a string")
    ledger.ownership.claim("first", holder)
    assert ledger.ownership.finish("first", holder, [GOOD]) is not None
    while ledger.maintenance.release_dependents():
        pass
    assert ledger.queries.get("second").state is JobState.QUEUED
    assert not ledger.client.exists(ledger.key("pending_dependents"))


def test_jobs_of_a_batch_that_is_none_run_all_the_same(ledger: Ledger, holder: str) -> None:
    ledger.batches.create("x", max_parallel=1)
    ledger.submission.create_many([NewJob(job_id, SPEC, "q", batch="x", index=nth) for nth, job_id in enumerate("ab")])
    for part in ("", ":waiting", ":ended", ":inputs", ":order", ":places"):
        key = ledger.key("batch", "x") + part
        ledger.client.delete(key)
        ledger.client.set(key, 1)
    ledger.ownership.claim("a", holder)
    assert ledger.ownership.finish("a", holder, [GOOD]) is not None
    assert ledger.queries.get("a").state is JobState.SUCCEEDED


def test_rules_of_a_batch_that_are_none_stop_nothing(ledger: Ledger, holder: str) -> None:
    ledger.batches.create("x", max_failures="1.2.3", min_success="half")
    ledger.submission.create_many([NewJob(job_id, SPEC, "q", batch="x", index=nth) for nth, job_id in enumerate("ab")])
    ledger.batches.close("x", 2)
    ledger.ownership.claim("a", holder)
    assert ledger.ownership.finish("a", holder, [GOOD.model_copy(update={"state": JobState.FAILED})]) is not None
    assert ledger.queries.get("b").state is JobState.QUEUED


def test_a_waiting_record_that_is_none_does_not_keep_a_batch_s_line(ledger: Ledger, holder: str) -> None:
    ledger.batches.create("x", max_parallel=1)
    ledger.submission.create_many([NewJob(job_id, SPEC, "q", batch="x", index=nth) for nth, job_id in enumerate("abc")])
    spoil(ledger, "b", "a list")
    ledger.ownership.claim("a", holder)
    ledger.ownership.finish("a", holder, [GOOD])
    assert ledger.queries.get("c").state is JobState.QUEUED


@pytest.mark.parametrize("how", [way for way in WAYS if way not in WRITTEN_BY_A_CLAIM])
def test_a_message_for_a_record_that_cannot_be_read(ledger: Ledger, holder: str, how: str) -> None:
    ledger.submission.create("a", SPEC, "q")
    spoil(ledger, "a", how)
    with pytest.raises(UnreadableRecord, match="job a: "):
        ledger.ownership.claim("a", holder)
    assert ledger.ownership.held_by(holder) == set()
    assert ledger.maintenance.unowned(0.0) in ([], ["a"])


def test_a_write_that_redis_refuses_is_still_worth_another_try(ledger: Ledger, holder: str) -> None:
    ledger.submission.create("a", SPEC, "q")
    ledger.client.delete(ledger.key("state", "QUEUED"))
    ledger.client.set(ledger.key("state", "QUEUED"), 1)
    with pytest.raises(LedgerUnavailable):
        ledger.ownership.claim("a", holder)


def test_submission_passes_over_what_is_no_record(ledger: Ledger) -> None:
    spoil(ledger, "bad", "a string")
    ledger.client.rpush(ledger.key("key", "k"), "x")
    made = ledger.submission.create_many(
        [NewJob("bad", SPEC, "q"), NewJob("good", SPEC, "q"), NewJob("keyed", SPEC, "q", key="k")]
    )
    assert [one.new for one in made] == [False, True, True]
    with pytest.raises(UnknownJob):
        ledger.submission.create_many([NewJob("later", SPEC, "q", after=(("bad", "success"),))])


# -- the reconciler ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
def test_a_round_goes_on_with_the_rest(ledger: Ledger, how: str, named: Callable[[], list[str]]) -> None:
    for job_id in ("bad", "good", "lost"):
        ledger.submission.create(job_id, SPEC, "q")
    spoil(ledger, "bad", how)
    ledger.client.zadd(ledger.key("unowned"), {"bad": 0, "good": 1})
    ledger.client.zadd(ledger.key("ready"), {"bad": 0, "lost": 1})
    ledger.client.zadd(ledger.key("deadlines"), {"bad": 0})
    worker = Worker(ledger)
    worker.reconciler.run_once()
    assert sorted(worker.taken) == ["good", "lost"]
    if how != "no state":  # one without a state is as good as expired
        assert set(named()) == {"bad"}
    worker.reconciler.run_once()
    due = [
        name
        for name in ("unowned", "ready")
        if (at := ledger.client.zscore(ledger.key(name), "bad")) and at < ledger.now()
    ]
    assert due == []


def test_a_round_goes_on_with_other_batches(ledger: Ledger, named: Callable[[], list[str]]) -> None:
    for batch_id in ("bad", "good"):
        ledger.batches.create(batch_id, speculate=Speculation())
        ledger.client.sadd(ledger.key("cancelling"), batch_id)
    ledger.client.hset(ledger.key("batch", "bad"), "created_at", "x")
    Worker(ledger).reconciler.run_once()
    assert ledger.batches.cancelling() == []
    assert ledger.batches.speculating() == ["good"]


def test_an_error_that_nobody_expected_does_not_end_a_round(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(ledger)
    for job_id in ("a", "b"):
        ledger.submission.create(job_id, SPEC, "q")
        ledger.client.zadd(ledger.key("ready"), {job_id: 1})

    def taking(job_id: str) -> None:
        if job_id == "a":
            raise RuntimeError("a defect")

    worker.taking = taking
    monkeypatch.setattr(ledger.maintenance, "expired", None)
    monkeypatch.setattr(ledger.batches, "cancelling", None)
    worker.reconciler.run_once()
    assert worker.taken == ["b"]
    assert ledger.queries.cluster() is not None  # which is done last
    assert "a defect" in caplog.text


# -- the command line -------------------------------------------------------------------------------------------------


def jaas(redis_url: str, prefix: str, *words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["--redis", redis_url, "--prefix", prefix, *words])


@pytest.mark.parametrize("how", ["a string", "attempts not JSON", "created_at a word", "output not JSON"])
def test_what_people_ask_is_answered_in_sentences(redis_url: str, prefix: str, ledger: Ledger, how: str) -> None:
    for job_id in ("bad", "good"):
        ledger.submission.create(job_id, SPEC, "jaas")
    spoil(ledger, "bad", how)
    listed = jaas(redis_url, prefix, "list")
    assert listed.exit_code == 0
    assert "good" in listed.stdout
    assert "jaas: job bad cannot be read: " in listed.stderr
    assert "bad" not in listed.stdout
    listed = jaas(redis_url, prefix, "list", "--json")
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == ["good"]
    for command in ("status", "explain", "logs", "wait", "cancel", "replay"):
        asked = jaas(redis_url, prefix, command, "bad")
        if command == "cancel" and how != "a string":
            continue  # what has to be known for that can be read
        assert asked.exit_code == 125, command
        assert asked.stderr.startswith("jaas: job bad: what Redis holds of it cannot be read: "), command
        assert len(asked.stderr.splitlines()) == 1, command
        assert "Traceback" not in asked.output


def test_a_batch_that_cannot_be_read(redis_url: str, prefix: str, ledger: Ledger) -> None:
    for batch_id in ("bad", "good"):
        ledger.batches.create(batch_id)
    ledger.client.hset(ledger.key("batch", "bad"), "size", "x")
    for words in (("batch", "status", "bad"), ("list", "--batch", "bad")):
        asked = jaas(redis_url, prefix, *words)
        assert asked.exit_code == 125
        assert asked.stderr.startswith("jaas: batch bad: what Redis holds of it cannot be read: ")
    listed = jaas(redis_url, prefix, "batch", "list")
    assert "good" in listed.stdout
    assert "jaas: batch bad cannot be read" in listed.stderr


def test_the_library_s_lists(redis_url: str, prefix: str, ledger: Ledger) -> None:
    for job_id in ("bad", "good"):
        ledger.submission.create(job_id, SPEC, "jaas")
    spoil(ledger, "bad", "attempts not JSON")
    with Client(redis_url, prefix=prefix) as client:
        assert [record.id for record in client.history()] == ["good"]
        assert [record.id for record in client.active()] == ["good"]
        assert list(client.ledger.unreadable) == ["job bad"]
