"""The fan-in of a chord over a real Redis whose replies get lost: the body is published, whatever it takes."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.app.task import Context
from celery.app.trace import trace_task_ret
from celery.states import EXCEPTION_STATES
from redis.connection import AbstractConnection

from jaas_submit import JobFailed, JobSpec, job
from jaas_submit.connection import connect
from jaas_submit.model.causes import Cause
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import TASK_RUN
from jaas_worker.app import WorkerApp, create_app
from jaas_worker.messaging.delivery import CeleryDelivery
from jaas_worker.messaging.result_backend import Results
from jaas_worker.settings import Settings
from tests.support.redis_server import OwnRedis

pytestmark = pytest.mark.redis

SPEC = JobSpec(image="jaas-test:latest")
NOW = datetime.now(UTC)
TRIES = 40
"""More than any fault below lasts."""


class Fault:
    """Breaks connections to Redis when they send the ``first``-th command and the following ones.

    Args:
        first: 1 for the next command.
        many: how many commands are struck.
        sent: whether the command reaches Redis, and only its reply is lost.
    """

    def __init__(self, first: int, many: int, sent: bool) -> None:
        self._strikes = range(first, first + many)
        self._sent = sent
        self.seen = 0
        self.struck = 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Strike from now on."""
        send: Any = AbstractConnection.send_packed_command

        def struck(connection: Any, command: Any, check_health: bool = True) -> None:
            self.seen += 1
            if self.seen not in self._strikes:
                send(connection, command, check_health)
                return
            self.struck += 1
            if self._sent:
                send(connection, command, check_health)
                connection.can_read(timeout=5)  # Redis has carried it out
            connection.disconnect()
            raise redis.ConnectionError("by the test")

        patch.setattr(AbstractConnection, "send_packed_command", struck)


@pytest.fixture
def app(own_redis: Callable[..., OwnRedis], prefix: str) -> Iterator[WorkerApp]:
    """A worker's app, without a worker."""
    app = create_app(Settings(redis_url=own_redis().url, prefix=prefix, queue=prefix))
    app.conf.task_publish_retry_policy = {"max_retries": 0}
    yield app
    app.close()


def messages(app: WorkerApp, queue: str) -> list[dict[str, Any]]:
    """Return what waits in a queue, the first one first."""
    with connect(app.jaas.settings.redis_url) as client:
        return [json.loads(text) for text in reversed(client.lrange(queue, 0, -1))]


def decoded(message: dict[str, Any]) -> Any:
    """Return a message's arguments, keyword arguments and options."""
    return json.loads(b64decode(message["body"]))


class Message:
    """A received message of a job, as a delivery sees Celery's request.

    Args:
        app: of the worker.
        job_id: of the job.
        options: of the message's body: ``chord``, ``chain``.
        headers: further ones.
    """

    message = SimpleNamespace(headers={}, delivery_info={})
    args = ()

    def __init__(self, app: WorkerApp, job_id: str, options: dict[str, Any], **headers: Any) -> None:
        self.id = job_id
        self.kwargs = {"spec": SPEC.to_wire()}
        self.task = app.tasks[TASK_RUN]
        self.headers = {"id": job_id, "task": TASK_RUN, **headers}
        self._context = Context({**self.headers, **options})
        body = json.dumps([self.args, self.kwargs, options])
        target = (TASK_RUN, job_id, self.headers, body, "application/json", "utf-8")
        loop: Any = SimpleNamespace(on_loop=lambda call: call())
        callbacks = {"callback": None, "accept_callback": self.accept}
        self.delivery = CeleryDelivery(loop, 1, partial(trace_task_ret, app=app), target, callbacks)

    def accept(self) -> None:
        """Celery's callback."""

    def reported(self, exit_code: int) -> None:
        """Report the job's outcome, as the worker does: again and again while Redis does not take it."""
        state = JobState.FAILED if exit_code else JobState.SUCCEEDED
        result = JobResult(job_id=self.id, state=state, cause=Cause.EXIT, exit_code=exit_code, queued_at=NOW)
        for _ in range(TRIES):
            if self.delivery.report(result):
                return
        raise AssertionError("never reported")


def begun(app: WorkerApp, *, chained: bool) -> list[Message]:
    """Begin a chord as Celery's `apply_async` does; return its parts. The last one may have a job before it."""
    body = job(SPEC, queue=app.jaas.settings.queue).set(task_id="the-body")
    app.backend.set_chord_size("the-chord", 3)
    whole: dict[str, Any] = {"chord": dict(body)}
    parts = [Message(app, f"part-{n}", whole, group="the-chord", group_index=n) for n in range(3)]
    if chained:
        last: Any = job(SPEC)
        last.set(task_id="part-2", group_id="the-chord", group_index=2, **whole)
        parts[-1] = Message(app, "before-it", {"chain": [dict(last)]})
    return parts


CASES = [
    pytest.param(0, False, id="all parts well"),
    pytest.param(4, False, id="a part that failed"),
    pytest.param(4, True, id="a chain that failed"),
]


@pytest.mark.parametrize(("exit_code", "chained"), CASES)
@pytest.mark.parametrize("many", [1, 5])
@pytest.mark.parametrize("after", [True, False], ids=["reply lost", "command lost"])
def test_no_lost_command_or_reply_costs_the_body(
    app: WorkerApp,
    prefix: str,
    after: bool,
    many: int,
    exit_code: int,
    chained: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert isinstance(app.backend, Results)
    first = 1
    while True:
        *parts, last = begun(app, chained=chained)
        for part in parts:
            part.reported(0)
        fault = Fault(first, many, after)
        with monkeypatch.context() as patch:
            fault.install(patch)
            last.reported(exit_code)
        bodies = messages(app, prefix)
        outcome = app.backend.get_task_meta("the-body")
        if exit_code == 0:
            assert {message["headers"]["id"] for message in bodies} == {"the-body"}, first
            (values,) = decoded(bodies[0])[0]
            assert [value["job_id"] for value in values] == ["part-0", "part-1", "part-2"]
            assert outcome["status"] == "PENDING"
        else:
            assert bodies == []
            assert outcome["status"] == "FAILURE", first
            assert "Dependency part-2 raised" in str(outcome["result"])
            assert "exit code 4" in str(outcome["result"]), "the job's own failure, and not that of Redis"
        assert app.backend.get_task_meta(last.id)["status"] == ("FAILURE" if exit_code else "SUCCESS")
        for part in (*parts, last):  # once settled it is settled, whoever comes again
            part.reported(exit_code)
        assert len(messages(app, prefix)) == len(bodies)
        with connect(app.jaas.settings.redis_url) as client:
            client.flushdb()
        if not fault.struck:
            break
        first += 1
    assert first > 5, "commands of the fan-in were struck"


@pytest.mark.parametrize("chained", [False, True])
def test_an_error_of_storing_the_outcome_is_not_the_outcome(
    app: WorkerApp, chained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full Redis may refuse the result, and take a small failure a moment later."""
    *_, last = begun(app, chained=chained)
    with monkeypatch.context() as patch:
        patch.setattr(app.backend, "mark_as_done", refused)
        result = JobResult(job_id=last.id, state=JobState.SUCCEEDED, cause=Cause.EXIT, exit_code=0, queued_at=NOW)
        assert last.delivery.report(result) is False
    assert app.backend.get_task_meta(last.id)["status"] == "PENDING"
    last.reported(0)
    assert app.backend.get_task_meta(last.id)["status"] == "SUCCESS"


def test_who_finds_the_body_failed_finds_the_failure_it_came_from(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who waits for the body gets the job's own failure at one time, and ChordError at another."""
    *parts, last = begun(app, chained=True)
    for part in parts:
        part.reported(0)
    stored: list[tuple[str, str]] = []
    store = app.backend.store_result

    def noting(task_id: str, result: Any, state: str, *args: Any, **more: Any) -> Any:
        stored.append((task_id, state))
        return store(task_id, result, state, *args, **more)

    monkeypatch.setattr(app.backend, "store_result", noting)
    last.reported(4)
    assert stored == [("before-it", "FAILURE"), ("part-2", "FAILURE"), ("the-body", "FAILURE")]


def test_what_the_parts_of_a_failed_chord_have_returned_can_be_looked_up(app: WorkerApp) -> None:
    *parts, last = begun(app, chained=False)
    for part in parts:
        part.reported(0)
    last.reported(4)
    backend: Any = app.backend
    kept = backend.client.zrange(backend.get_key_for_group("the-chord", ".j"), 0, -1)
    states = [backend.decode(part)[1:3] for part in kept]
    assert states == [["part-0", "SUCCESS"], ["part-1", "SUCCESS"], ["part-2", "FAILURE"]]


STORED = [
    # what is stored already, whether STARTED and whether a failure take its place
    ("PENDING", True, True),
    ("STARTED", True, True),
    ("RETRY", True, True),
    ("FAILURE", False, True),
    ("REVOKED", False, True),
    ("SUCCESS", False, False),
]


@pytest.mark.parametrize(("state", "starts", "fails"), STORED)
def test_what_a_worker_says_too_late_does_not_replace_an_outcome(
    app: WorkerApp, state: str, starts: bool, fails: bool
) -> None:
    """One that was suspended goes on where it was, after its successor has stored the end."""
    backend: Any = app.backend

    def stored() -> str:
        return str(backend.get_task_meta("late", cache=False)["status"])

    if state != "PENDING":  # which is nothing stored
        backend.store_result("late", JobFailed("x") if state in EXCEPTION_STATES else {}, state)
    backend.store_started("late", {"pid": 1}, Context())
    assert stored() == ("STARTED" if starts else state)
    backend.store_result("late", JobFailed("y"), "FAILURE")
    assert stored() == ("FAILURE" if fails else state)
    assert 0 < backend.client.ttl(backend.get_key_for_task("late")) <= app.conf.result_expires


def test_who_waits_for_a_result_is_told_of_the_outcome_alone(app: WorkerApp) -> None:
    backend: Any = app.backend
    with backend.client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(backend.get_key_for_task("heard"))
        pubsub.get_message(timeout=5)
        backend.store_started("heard", {"pid": 1}, Context())
        backend.store_result("heard", {"exit_code": 0}, "SUCCESS")
        told = pubsub.get_message(timeout=5)
    assert told is not None
    assert json.loads(told["data"])["status"] == "SUCCESS"


def refused(*_: Any, **__: Any) -> None:
    raise redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'")
