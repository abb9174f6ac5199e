"""Foreign producers' messages that a worker receives become records; one with an eta waits there for its time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import celery
import pytest

from jaas_submit import Client, JobSpec, JobState
from jaas_submit.messaging.queues import lists_of
from jaas_submit.model.records import MESSAGE_EXPIRED
from tests.support.wait import eventually
from tests.support.worker import Installation

pytestmark = pytest.mark.redis

SPEC = {"image": "alpine", "command": ["true"]}
DAY = 86400
LONG = 60.0
"""Seconds to wait for something that takes one or two."""


@pytest.fixture
def foreign(home: Installation) -> Iterator[celery.Celery]:
    app = celery.Celery("theirs", broker=home.redis_url, backend=home.redis_url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def client(home: Installation) -> Iterator[Client]:
    with Client(home.redis_url, queue=home.queue, prefix=home.prefix) as made:
        yield made


def send(foreign: celery.Celery, home: Installation, **options: Any) -> Any:
    return foreign.send_task("jaas.run", kwargs={"spec": SPEC}, queue=home.queue, **options)


def known(client: Client, job_id: str) -> None:
    eventually(lambda: client.ledger.queries.find([job_id]), LONG, f"a record of job {job_id}")


def reported(client: Client, job_id: str) -> None:
    records = client.ledger.queries.find
    eventually(lambda: [one.reported for one in records([job_id])] == [True], LONG, f"the end of job {job_id}")


def left(home: Installation) -> int:
    """Return how many messages wait in the queue or are unacknowledged."""
    redis: Any = home.ledger.client
    waiting = sum(redis.llen(name) for name in lists_of(home.queue))
    return int(waiting + redis.hlen(f"{home.prefix}:unacked") + redis.zcard(f"{home.prefix}:unacked_index"))


@pytest.mark.parametrize("how", ["jaas", "celery"])
@pytest.mark.parametrize("protocol", [1, 2])
def test_a_message_for_later_is_a_job_that_waits_and_can_be_cancelled(
    home: Installation, foreign: celery.Celery, client: Client, how: str, protocol: int
) -> None:
    foreign.conf.task_protocol = protocol
    home.worker().start()
    eta = datetime.now(UTC) + timedelta(days=1)
    sent = send(foreign, home, eta=eta, priority=6)
    known(client, sent.id)

    eventually(lambda: left(home) == 0, LONG, "no message to be left")
    record = client.ledger.queries.get(sent.id)
    assert (record.state, record.celery_priority, record.holder) == (JobState.WAITING, 6, "")
    assert record.not_before is not None
    assert abs(record.not_before - eta) < timedelta(seconds=1)
    assert f"{eta:%Y-%m-%d %H:%M}" in str(client.explain(sent.id))
    assert [one.id for one in client.active()] == [sent.id]
    assert sent.state == "PENDING"

    if how == "jaas":
        assert client.cancel(sent.id) is JobState.WAITING
    else:
        eventually(lambda: foreign.control.ping(timeout=1), 20, "the worker to answer")
        foreign.control.revoke(sent.id)
    reported(client, sent.id)
    assert client.ledger.queries.get(sent.id).state is JobState.CANCELLED
    state: str = foreign.AsyncResult(sent.id).state
    assert state == "REVOKED"
    assert home.services() == []


def test_a_job_starts_when_its_time_has_come_and_is_followed_by_what_hangs_on_it(
    home: Installation, foreign: celery.Celery, client: Client
) -> None:
    home.worker().start()
    follows = foreign.signature("jaas.run", kwargs={"spec": SPEC}, queue=home.queue, immutable=True).set(
        task_id="after"
    )
    sent = send(foreign, home, countdown=2, link=follows)
    known(client, sent.id)
    time = client.ledger.queries.get(sent.id).not_before

    assert sent.get(timeout=LONG)["state"] == "SUCCEEDED"

    record = client.ledger.queries.get(sent.id)
    assert time is not None
    assert record.claimed_at is None or record.claimed_at >= time
    assert record.started_at is None or record.started_at >= time - timedelta(seconds=1)
    reported(client, "after")
    assert client.ledger.queries.get("after").state is JobState.SUCCEEDED


def test_any_worker_starts_a_job_whose_receiver_has_died(
    home: Installation, foreign: celery.Celery, client: Client
) -> None:
    first = home.worker().start()
    sent = send(foreign, home, countdown=DAY)
    known(client, sent.id)
    first.kill()
    home.worker().start()
    home.ledger.client.zadd(f"{home.prefix}:due", {sent.id: 1}, xx=True)  # the day is over

    assert sent.get(timeout=LONG)["state"] == "SUCCEEDED"


def test_a_message_that_expires_before_its_eta_is_revoked(
    home: Installation, foreign: celery.Celery, client: Client
) -> None:
    home.worker().start()
    sent = send(foreign, home, countdown=DAY, expires=2)
    reported(client, sent.id)
    record = client.ledger.queries.get(sent.id)
    assert (record.state, record.detail) == (JobState.CANCELLED, MESSAGE_EXPIRED)
    assert sent.state == "REVOKED"


def test_a_message_with_an_eta_under_an_id_that_is_known_changes_nothing(
    home: Installation, foreign: celery.Celery, client: Client
) -> None:
    home.worker().start()
    first = send(foreign, home, task_id="same")
    assert first.get(timeout=LONG)["state"] == "SUCCEEDED"
    reported(client, "same")
    send(foreign, home, task_id="same", countdown=DAY)
    eventually(lambda: left(home) == 0, LONG, "no message to be left")
    assert len(client.ledger.queries.get("same").attempts) == 1


@pytest.mark.parametrize("label", ["intake.before", "intake.after"])
@pytest.mark.parametrize("countdown", [None, DAY])
def test_a_worker_that_dies_at_the_intake_loses_nothing(
    home: Installation, foreign: celery.Celery, client: Client, label: str, countdown: int | None
) -> None:
    doomed = home.worker("doomed", failpoint=label, lease="2s").launch()
    sent = send(foreign, home, countdown=countdown)
    doomed.wait()
    assert len(client.ledger.queries.find([sent.id])) == int(label == "intake.after")
    assert (left(home) == 0) is (label == "intake.after")
    redis: Any = home.ledger.client
    for tag in redis.zrange(f"{home.prefix}:unacked_index", 0, -1):
        redis.zadd(f"{home.prefix}:unacked_index", {tag: 1})  # the broker's time-out has passed
    home.worker("successor", lease="2s").start()
    if countdown:
        eventually(lambda: client.ledger.queries.find([sent.id]), LONG, "the record")
        assert client.ledger.queries.get(sent.id).state is JobState.WAITING
        redis.zadd(f"{home.prefix}:due", {sent.id: 1}, xx=True)

    assert sent.get(timeout=LONG)["state"] == "SUCCEEDED"
    assert left(home) == 0
    assert len(client.ledger.queries.get(sent.id).attempts) == 1


def test_at_its_shutdown_a_worker_offers_what_it_has_received_and_not_claimed(
    home: Installation, foreign: celery.Celery, client: Client
) -> None:
    first = home.worker("first", max_in_flight=1, lease="120s", republish_after="1h").start()
    holding = client.submit(JobSpec(image="alpine", command=["sleep", "600"]))
    eventually(lambda: holding.state is JobState.RUNNING, LONG, "the first job to run")
    sent = send(foreign, home)
    known(client, sent.id)
    assert client.ledger.queries.get(sent.id).state is JobState.QUEUED

    assert first.stop() in {0, -signal.SIGTERM}
    home.worker("second", lease="120s", republish_after="1h").start()

    assert sent.get(timeout=LONG)["state"] == "SUCCEEDED"
    holding.cancel()


def test_a_record_with_another_job_s_task_id_ends_and_leaves_that_job_alone(
    home: Installation, foreign: celery.Celery, client: Client
) -> None:
    other = client.submit(JobSpec(image="alpine"), not_before=DAY)
    home.ledger.submission.create("mine", JobSpec(image="alpine"), home.queue, other.id)
    home.ledger.client.zadd(f"{home.prefix}:ready", {"mine": 0})
    home.worker().start()

    reported(client, "mine")
    record = client.ledger.queries.get("mine")
    assert record.last is not None
    assert (record.state, record.last.cause) == (JobState.FAILED, "refused")
    assert record.last.reason == "its record has the task id of another job"
    assert other.state is JobState.WAITING
    assert foreign.AsyncResult(other.id).state == "PENDING"
