"""What workers note of jobs, and the places of those in flight, on a real Redis."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from jaas_submit.access.acl import rules_of
from jaas_submit.access.roles import Installation, Role, grants_of
from jaas_submit.ledger import Ledger, Note
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.states import JobState

SPEC = JobSpec(image="a")
LONG = 3600.0


def launch(ledger: Ledger, *job_ids: str) -> None:
    ledger.maintenance.renew_lease("w", LONG, {"holder": "w"})
    for job_id in job_ids:
        ledger.submission.create(job_id, SPEC, "q")
        ledger.ownership.claim(job_id, "w")


def end(ledger: Ledger, job_id: str) -> None:
    for state in (JobState.PENDING, JobState.RUNNING):
        assert ledger.ownership.move(job_id, "w", state)
    ledger.client.hset(f"{ledger.prefix}:job:{job_id}", "state", JobState.SUCCEEDED)


def test_a_note_keeps_the_first_queue_and_the_last_image_and_expires(ledger: Ledger) -> None:
    assert ledger.notes.get("j") == Note()
    ledger.notes.note_queue("j", "first")
    ledger.notes.note_queue("j", "second")
    ledger.notes.pin_image("j", "a@1")
    ledger.notes.pin_image("j", "a@2")
    assert ledger.notes.get("j") == Note("first", "a@2")
    assert 0 < int(str(ledger.client.ttl(f"{ledger.prefix}:noted:j"))) <= 30 * 86400


def test_no_more_jobs_are_in_flight_than_each_limit_allows(ledger: Ledger) -> None:
    launch(ledger, "a", "b", "c", "d")
    limits = {"all": 3, "queue:q": 2}
    assert [ledger.notes.take_places(one, limits) for one in ("a", "b", "c")] == ["", "", "queue:q"]
    assert ledger.notes.take_places("a", limits) == "", "it has its place already"
    assert ledger.notes.take_places("c", {"all": 3}) == ""
    assert ledger.notes.take_places("d", {"all": 3}) == "all"
    end(ledger, "a")
    assert ledger.notes.take_places("d", limits) == ""
    assert ledger.notes.take_places("a2", {"all": 3}) == "all"


def test_a_job_that_is_counted_in_one_place_only_is_counted_in_none(ledger: Ledger) -> None:
    launch(ledger, "a", "b", "c")
    assert ledger.notes.take_places("a", {"queue:q": 1}) == ""
    assert ledger.notes.take_places("b", {"all": 1, "queue:q": 1}) == "queue:q"
    assert ledger.notes.take_places("c", {"all": 1}) == "", "b has taken a place and does not run"


def test_many_that_have_ended_do_not_hold_their_places_for_ever(ledger: Ledger) -> None:
    gone = [f"gone{number}" for number in range(120)]
    ledger.client.sadd(f"{ledger.prefix}:in_flight:all", *gone)
    launch(ledger, "j")
    asked = next(number for number in range(1, 20) if not ledger.notes.take_places("j", {"all": 10}))
    assert asked == 3, "50 are looked at each time"


def test_a_producer_s_user_can_neither_read_nor_write_notes(ledger: Ledger) -> None:
    ledger.notes.pin_image("j", "a@1")
    ledger.client.sadd(f"{ledger.prefix}:in_flight:all", "j")
    version = (7, 0)
    rules = rules_of(grants_of(Role.PRODUCER, Installation(ledger.prefix, ["q"])), version)
    name = f"{ledger.prefix}-producer".replace(":", "-")
    admin: Any = ledger.client  # redis-py leaves execute_command untyped
    admin.execute_command("ACL", "SETUSER", name, "on", "nopass", *rules)
    try:
        at = ledger.client.connection_pool.connection_kwargs
        where = {key: at[key] for key in ("host", "port", "db") if key in at}
        with redis.Redis(**where, username=name, password="any") as producer:
            assert producer.hset(f"{ledger.prefix}:job:j", "image", "forged") == 1
            for command in (
                ("HSET", f"{ledger.prefix}:noted:j", "image", "forged"),
                ("DEL", f"{ledger.prefix}:noted:j"),
                ("SREM", f"{ledger.prefix}:in_flight:all", "j"),
                ("HGETALL", f"{ledger.prefix}:noted:j"),
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    producer.execute_command(*command)
    finally:
        admin.execute_command("ACL", "DELUSER", name)
    assert ledger.notes.get("j").image == "a@1"
