"""The fan-in of a chord over a real Redis whose replies get lost: the body is published, whatever it takes."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection

from jaas_submit import JobSpec, job
from jaas_submit.ledger import connect
from jaas_worker.app import WorkerApp, create_app
from jaas_worker.results import FOR_NOW, Results
from jaas_worker.settings import Settings
from tests.support.redis_server import OwnRedis

pytestmark = pytest.mark.redis

SPEC = JobSpec(image="jaas-test:latest")
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
        send = AbstractConnection.send_packed_command

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


def begun(app: WorkerApp) -> list[SimpleNamespace]:
    """Begin a chord as Celery's `apply_async` does; return the contexts of its parts."""
    body = job(SPEC, queue=app.jaas.settings.queue).set(task_id="the-body")
    app.backend.set_chord_size("the-chord", 3)
    known = {"group": "the-chord", "chord": dict(body)}
    return [SimpleNamespace(id=f"part-{n}", group_index=n, **known) for n in range(3)]


def reported(app: WorkerApp, part: SimpleNamespace, state: str, value: Any) -> None:
    """Report a part as the ledger has it done: again and again, as long as Redis is the trouble."""
    for _ in range(TRIES):
        try:
            app.backend.store_result(part.id, value, state)
            app.backend.on_chord_part_return(part, state, value)
        except FOR_NOW:
            continue
        return
    raise AssertionError("never reported")


@pytest.mark.parametrize("ok", [True, False], ids=["all parts well", "a part that failed"])
@pytest.mark.parametrize("many", [1, 5])
@pytest.mark.parametrize("after", [True, False], ids=["reply lost", "command lost"])
def test_no_lost_command_or_reply_costs_the_body(
    app: WorkerApp, prefix: str, after: bool, many: int, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(app.backend, Results)
    first = 1
    while True:
        *parts, last = begun(app)
        for n, part in enumerate(parts):
            reported(app, part, "SUCCESS", {"n": n})
        fault = Fault(first, many, after)
        with monkeypatch.context() as patch:
            fault.install(patch)
            if ok:
                reported(app, last, "SUCCESS", {"n": 2})
            else:
                reported(app, last, "FAILURE", RuntimeError("exit code 4"))
        bodies = messages(app, prefix)
        outcome = app.backend.get_task_meta("the-body")
        if ok:
            assert {message["headers"]["id"] for message in bodies} == {"the-body"}, first
            assert decoded(bodies[0])[0] == [[{"n": 0}, {"n": 1}, {"n": 2}]]
            assert outcome["status"] == "PENDING"
        else:
            assert bodies == []
            assert outcome["status"] == "FAILURE"
            assert f"Dependency {last.id} raised RuntimeError('exit code 4')" in str(outcome["result"])
        for part in (*parts, last):  # once settled it is settled, whoever comes again
            reported(app, part, "SUCCESS", {"n": 0})
        assert len(messages(app, prefix)) == len(bodies)
        with connect(app.jaas.settings.redis_url) as client:
            client.flushdb()
        if not fault.struck:
            break
        first += 1
    assert first > 5, "commands of the fan-in were struck"
