"""A queue that is paused and resumed under a real worker: its messages stay where they are, and its jobs wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jaas_submit import Client, JobSpec, JobState
from tests.support.wait import eventually
from tests.support.worker import Installation

pytestmark = pytest.mark.redis

SPEC = JobSpec(image="alpine", command=["true"])
LONG = 60.0
"""Seconds to wait for something that takes one or two."""


@pytest.fixture
def client(home: Installation) -> Iterator[Client]:
    with Client(home.redis_url, queue=home.queue, prefix=home.prefix) as made:
        yield made


def test_pause_and_resume_in_mid_batch(home: Installation, client: Client) -> None:
    worker = home.worker().start()
    long = client.submit({"image": "alpine", "command": ["sleep", "600"]})
    eventually(lambda: long.state is JobState.RUNNING, LONG, "it does not run")
    client.queues.pause(home.queue)
    # Until the worker has heard of it, it may take messages: their jobs are kept. After that it leaves them.
    first = client.submit(SPEC)
    eventually(lambda: "takes no messages of it" in worker.log, LONG, "the worker has not heard of it")
    batch = client.map(SPEC, range(20))
    retried = client.submit(SPEC)
    assert retried.cancel() is JobState.QUEUED
    assert client.explain(first.id).reason == "queue_paused"
    assert client.queues.describe(home.queue).messages >= 20
    assert long.state is JobState.RUNNING
    assert home.services() == [f"jaas-{long.id}-1"]
    client.queues.resume(home.queue)
    assert first.wait(LONG).ok
    assert batch.wait(LONG).state is JobState.SUCCEEDED
    assert client.queues.describe(home.queue).messages == 0
    long.cancel()
    long.wait(LONG, check=False)


def test_a_foreign_message_waits_for_its_queue_with_what_follows_it(home: Installation, client: Client) -> None:
    """The worker has it already when the queue is paused: it is kept with its message, and its chord goes on later."""
    import celery

    client.queues.create(home.queue, paused=True)
    app = celery.Celery("theirs", broker=home.redis_url, backend=home.redis_url, set_as_current=False)
    run = app.signature("jaas.run", kwargs={"spec": {"image": "alpine", "command": ["true"]}}, queue=home.queue)
    worker = home.worker().start()
    eventually(lambda: "takes no messages of it" in worker.log, LONG, "the worker has not heard of it")
    body = app.signature("jaas.run", kwargs={"spec": {"image": "alpine"}}, queue=home.queue, immutable=True)
    sent = (run | body).apply_async()
    client.queues.resume(home.queue)
    assert sent.get(LONG)["state"] == "SUCCEEDED"
    app.close()
