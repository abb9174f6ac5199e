"""Celery's events, which Flower lives on, over a real Redis: what is collected is published, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from jaas_worker.app import WorkerApp, create_app
from jaas_worker.messaging.consumer import Consumer
from jaas_worker.settings import Settings
from tests.support.redis_server import OwnRedis

pytestmark = pytest.mark.redis


@pytest.fixture
def app(own_redis: Callable[..., OwnRedis], prefix: str) -> Iterator[WorkerApp]:
    """A worker's app, without a worker."""
    app = create_app(Settings(redis_url=own_redis().url, prefix=prefix, queue=prefix))
    yield app
    app.close()


class Timers:
    """An event loop's timers, which the test lets run out."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        assert delay > 0
        self.due.append(call)

    def run_out(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


class Worker:
    """Consumer and dispatcher of a worker, and who listens to its events."""

    def __init__(self, app: WorkerApp) -> None:
        self.app: Any = app
        self.timers = Timers()
        self.consumer: Any = object.__new__(Consumer)
        self.consumer.app, self.consumer.hub, self.consumer.connection = app, self.timers, None
        backend: Any = app.backend
        ledger = SimpleNamespace(client=backend.client)
        self.consumer.pool = SimpleNamespace(runner=SimpleNamespace(ledger=ledger))
        self.connect()

    def connect(self) -> None:
        """Begin with a new dispatcher, as Celery does after a lost connection."""
        before = getattr(self.consumer, "event_dispatcher", None)
        made = self.app.events.Dispatcher(
            self.app.connection_for_write(),
            buffer_group=["task"],
            on_send_buffered=self.consumer.on_send_event_buffered,
        )
        self.consumer.event_dispatcher = made
        if before:
            made.extend_buffer(before)
            made.flush()

    def heard(self, act: Callable[[], None]) -> list[str]:
        """Return the task ids in the next message with events, while something is done that publishes one."""
        ids: list[str] = []
        with self.app.connection_for_read() as connection:
            receiver = self.app.events.Receiver(connection, handlers={"*": lambda event: ids.append(event["uuid"])})
            with receiver.consumer_context(wakeup=False) as (listening, *_):
                listening.drain_events(timeout=10)  # Redis has confirmed the subscription
                act()
                listening.drain_events(timeout=10)
        return ids

    def send(self, *ids: str) -> None:
        for one in ids:
            self.consumer.event_dispatcher.send("task-started", uuid=one)


def test_events_go_out_together_when_their_time_is_over(app: WorkerApp) -> None:
    worker = Worker(app)
    worker.consumer.event_batch = 600.0
    worker.send("a", "b")
    assert len(worker.timers.due) == 1
    assert worker.heard(worker.timers.run_out) == ["a", "b"]


@pytest.mark.parametrize("end", ["stop", "shutdown"])
def test_what_is_left_goes_out_at_the_end(app: WorkerApp, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"celery.worker.consumer.Consumer.{end}", lambda _: None)
    worker = Worker(app)
    worker.send("a", "b")
    assert worker.heard(getattr(worker.consumer, end)) == ["a", "b"]


def test_what_a_broken_connection_left_goes_out_over_the_next_one(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery.worker.consumer.Consumer.on_connection_error_after_connected", lambda *_: None)
    worker = Worker(app)
    worker.send("a", "b")
    worker.consumer.on_connection_error_after_connected(ConnectionError("broken (test)"))
    assert worker.heard(worker.connect) == ["a", "b"]
