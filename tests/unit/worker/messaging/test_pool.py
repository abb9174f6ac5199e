"""What a delivery does when the result backend fails. tests/integration has the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker import state as worker_state

from jaas_submit.connection import connect
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState
from jaas_worker.messaging.delivery import CeleryDelivery
from jaas_worker.messaging.pool import TaskPool

FULL = redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'")
AWAY = redis.exceptions.ConnectionError("Connection closed by server.")


class Request:
    """A Celery request: what a delivery uses of it."""

    id = task_id = "job-1"
    message = SimpleNamespace(headers={}, delivery_info={})
    kwargs: dict[str, Any] = {}  # noqa: RUF012 (nobody writes to it)
    args = ()

    def __init__(self, stored: Callable[..., None]) -> None:
        self.acknowledged = False
        self._context = SimpleNamespace(chain=["next"], chord="body")
        self.task = SimpleNamespace(backend=SimpleNamespace(mark_as_done=stored, mark_as_failure=stored))

    def accept(self) -> None:
        """Its accept callback."""

    def acknowledge(self) -> None:
        self.acknowledged = True


def raising(error: Exception) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


@pytest.fixture
def delivery(monkeypatch: pytest.MonkeyPatch) -> Callable[..., CeleryDelivery]:
    monkeypatch.setattr(worker_state, "task_ready", lambda _: None)

    def make(traced: Exception, stored: Exception | Callable[..., None]) -> CeleryDelivery:
        store = raising(stored) if isinstance(stored, Exception) else stored
        loop: Any = SimpleNamespace(on_loop=lambda call: call())
        callbacks = {"callback": raising(AssertionError("told")), "accept_callback": Request(store).accept}
        return CeleryDelivery(loop, 1, raising(traced), (), callbacks)

    return make


RESULT = JobResult(
    job_id="job-1",
    state=JobState.SUCCEEDED,
    cause=Cause.EXIT,
    exit_code=0,
    attempt=1,
    queued_at=datetime(2026, 11, 23, tzinfo=UTC),
)


@pytest.mark.parametrize("error", [FULL, AWAY])
def test_a_retry_that_celery_cannot_be_told_of_goes_on_without_it(
    delivery: Callable[..., CeleryDelivery], error: Exception
) -> None:
    one = delivery(traced=error, stored=error)

    assert one.retrying("attempt 1 ended", 0.5) is False
    one.done()

    assert one.request.acknowledged


@pytest.mark.parametrize("error", [FULL, AWAY])
@pytest.mark.parametrize("first", [FULL, RuntimeError("no such signature")])
def test_a_result_that_celery_cannot_store_now_is_handed_over_again(
    delivery: Callable[..., CeleryDelivery], first: Exception, error: Exception
) -> None:
    assert delivery(traced=first, stored=error).report(RESULT) is False


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
@pytest.mark.parametrize(
    ("nonsense", "told"),
    [
        pytest.param((), {"chain", "chord"}, id="a callback"),
        pytest.param(("chain",), {"chord"}, id="the chain"),
        pytest.param(("chord",), set(), id="the chord"),
        pytest.param(("chain", "chord"), set(), id="both"),
    ],
)
def test_a_result_is_stored_although_nobody_can_call_what_follows(
    delivery: Callable[..., CeleryDelivery], state: JobState, nonsense: tuple[str, ...], told: set[str]
) -> None:
    stored = []

    def store(_task_id: str, _result: object, request: Any, **_: object) -> None:
        if any(getattr(request, name) for name in nonsense):
            raise AttributeError("'Context' object has no attribute 'options'")
        stored.append({name for name in ("chain", "chord") if getattr(request, name)})

    one = delivery(traced=RuntimeError("no such signature"), stored=store)
    assert one.report(RESULT.model_copy(update={"state": state}))
    assert stored == [told]


def test_a_queue_that_cannot_be_asked_is_an_outage_and_no_defect() -> None:
    pool: Any = SimpleNamespace(runner=SimpleNamespace(ledger=Ledger(connect("redis://127.0.0.1:1"))))

    with pytest.raises(LedgerUnavailable, match="queue: Redis does not answer"):
        TaskPool.queue_length(pool, "jobs")
