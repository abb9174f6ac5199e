"""Messages: the form in which they lie in Redis, and who puts them there."""

from __future__ import annotations

import json
from typing import Any

import kombu
import pytest
import redis
from kombu import Connection

from jaas_submit import Client, JobSpec, JobState, UnknownJob
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.ledger import Ledger
from jaas_submit.messaging.app import celery_app
from jaas_submit.messaging.messages import WAKEUP, packed
from tests.support.ports import free_port

SPEC = JobSpec(image="a", command=["echo", "hé"], check=False)


BOTH_WAYS = pytest.mark.parametrize(
    "own", [False, True], ids=["in one step with the record", "through the app of the user"]
)


def test_a_message_has_the_form_that_kombu_gives_it() -> None:
    message = json.loads(packed("j", SPEC, "q", "b", 3))
    with Connection("memory://") as connection:
        channel: Any = connection.channel()
        made = channel.prepare_message(
            '[[], {"spec": {"check": false}}, {}]',
            content_type="application/json",
            content_encoding="utf-8",
            headers=message["headers"],
            properties={"correlation_id": "j", "delivery_mode": 2},
        )
        channel._inplace_augment_message(made, "", "q")  # noqa: SLF001 (what kombu's own messages go through)
    assert len(message["properties"].pop("delivery_tag")) == len(made["properties"].pop("delivery_tag"))
    assert message == made
    assert (message["headers"]["id"], message["headers"][WAKEUP]) == ("j", True)


def test_each_copy_of_a_message_has_a_tag_of_its_own() -> None:
    tags = {json.loads(packed("j", SPEC, "q"))["properties"]["delivery_tag"] for _ in range(3)}
    assert len(tags) == 3


def queued(ledger: Ledger, queue: str) -> list[str]:
    """Return the ids in a queue, the one that is taken first in front."""
    return [json.loads(text)["headers"]["id"] for text in reversed(ledger.client.lrange(queue, 0, -1))]


@BOTH_WAYS
def test_what_may_run_has_a_message_in_its_queue(ledger: Ledger, redis_url: str, own: bool) -> None:
    app = celery_app(redis_url) if own else None
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, app=app) as client:
        first = client.submit(SPEC, key="once")
        again = client.submit(SPEC, key="once")
        waits = client.submit(SPEC, after=[first])
        many = client.submit_many([SPEC, SPEC])
        with pytest.raises(UnknownJob):
            client.submit(SPEC, after=["nobody"])
        last = client.submit(SPEC)
    assert again.id == first.id
    assert ledger.queries.get(waits.id).state is JobState.WAITING
    assert queued(ledger, ledger.prefix) == [first.id, *(one.id for one in many), last.id]


def test_a_record_that_is_written_again_after_a_lost_reply_brings_no_second_message(ledger: Ledger) -> None:
    job = NewJob("j", SPEC, ledger.prefix, wakeup=packed("j", SPEC, ledger.prefix))
    first, again = ledger.submission.create_many([job])[0], ledger.submission.create_many([job])[0]
    assert (first.new, again.new, again.job_id, again.state) == (True, False, "j", JobState.QUEUED)
    assert queued(ledger, ledger.prefix) == ["j"]


@BOTH_WAYS
def test_a_message_that_redis_refuses_is_no_error(ledger: Ledger, redis_url: str, own: bool) -> None:
    """The record is the job; workers find those whose message never came."""
    ledger.client.set(ledger.prefix, "not a list")
    app = celery_app(redis_url) if own else None
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, app=app) as client:
        handles = client.submit_many([SPEC, SPEC])
    assert [handle.id for handle in handles] == sorted(
        ledger.queries.ids(JobState.QUEUED), key=[h.id for h in handles].index
    )


def test_a_job_that_is_refused_keeps_no_message_of_the_others_back(ledger: Ledger, redis_url: str) -> None:
    queue = ledger.prefix
    jobs = [NewJob("a", SPEC, queue), NewJob("b", SPEC, queue, after=(("nobody", "finish"),)), NewJob("c", SPEC, queue)]
    with Client(redis_url, prefix=ledger.prefix) as client, pytest.raises(UnknownJob):
        client.submit_records(jobs)
    assert queued(ledger, queue) == ["a", "c"]


def test_a_broker_that_does_not_answer_is_no_error(ledger: Ledger, redis_url: str) -> None:
    app: Any = celery_app(f"redis://127.0.0.1:{free_port()}/0")
    app.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0}
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, app=app) as client:
        assert client.submit(SPEC).state is JobState.QUEUED
    assert not ledger.client.exists(ledger.prefix)


def test_a_connection_of_the_users_app_that_breaks_costs_no_message(
    ledger: Ledger, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, broken = redis.client.Pipeline.execute, []

    def execute(pipeline: redis.client.Pipeline, *more: Any) -> Any:
        broken.append(len(pipeline.command_stack))
        monkeypatch.setattr(redis.client.Pipeline, "execute", really)
        raise redis.ConnectionError("reset (test)")

    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, app=celery_app(redis_url)) as client:
        monkeypatch.setattr(redis.client.Pipeline, "execute", execute)
        handles = client.submit_many([SPEC, SPEC])
    assert broken == ([2] if hasattr(kombu.Producer, "batch") else []), "both messages in one go, where kombu can"
    assert queued(ledger, ledger.prefix) == [one.id for one in handles]
