"""Celery's revoke of a job of which there is no record yet: its message has not arrived, or waits for its time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import celery
import pytest

from jaas_submit import JobState
from tests.support.wait import eventually
from tests.support.worker import Installation

pytestmark = pytest.mark.redis

SPEC = {"image": "alpine", "command": ["true"]}


@pytest.fixture
def foreign(home: Installation) -> Iterator[celery.Celery]:
    app = celery.Celery("theirs", broker=home.redis_url, backend=home.redis_url, set_as_current=False)
    yield app
    app.close()


def heard(foreign: celery.Celery) -> None:
    """Wait until a worker hears what is published for it, which is a moment after it says that it is ready."""
    eventually(lambda: foreign.control.ping(timeout=1), 20, "the worker to answer")


def revoked(home: Installation) -> list[bytes]:
    found: Any = home.ledger.client.zrange(f"{home.prefix}:revoked", 0, -1)
    return list(found)


def test_a_job_that_was_revoked_before_its_message_came_does_not_run_after_a_restart(
    home: Installation, foreign: celery.Celery
) -> None:
    worker = home.worker().start()
    heard(foreign)
    foreign.control.revoke("not-yet")
    eventually(lambda: revoked(home) == [b"not-yet"], 10, "the revoke to be noted")
    worker.stop()
    worker.start()
    sent = foreign.send_task("jaas.run", kwargs={"spec": SPEC}, queue=home.queue, task_id="not-yet")
    # Celery's backend says REVOKED from the start, whatever becomes of the message.
    eventually(lambda: [one.reported for one in home.ledger.queries.find(["not-yet"])] == [True], 30, "the job's end")
    state: str = sent.state
    assert state == "REVOKED"
    record = home.ledger.queries.get("not-yet")
    assert (record.state, record.last and record.last.number) == (JobState.CANCELLED, 0), "it was never launched"
    assert record.last is not None
    assert record.last.reason == "revoked through Celery"
    assert revoked(home) == [], "it has a record now"


def test_others_run(home: Installation, foreign: celery.Celery) -> None:
    home.worker().start()
    heard(foreign)
    foreign.control.revoke("another")
    eventually(lambda: revoked(home) == [b"another"], 10, "the revoke to be noted")
    sent = foreign.send_task("jaas.run", kwargs={"spec": SPEC}, queue=home.queue, task_id="this")
    assert sent.get(timeout=30)["state"] == "SUCCEEDED"


def test_what_is_remembered_is_bounded_and_expires(home: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_submit.ledger.submission.MOST_REVOKED", 3)
    home.ledger.client.delete(f"{home.prefix}:revoked")
    for number in range(5):
        assert home.ledger.submission.revoke(f"job-{number}")
    assert revoked(home) == [b"job-2", b"job-3", b"job-4"]
    assert 0 < home.ledger.client.ttl(f"{home.prefix}:revoked") <= home.ledger.ttl
    home.ledger.submission.create("known", None, home.queue)
    assert not home.ledger.submission.revoke("known")
