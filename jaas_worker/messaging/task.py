"""The Celery task `jaas.run`. Its body runs when the container has exited, and converts the result for Celery."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import celery
from celery.exceptions import Retry
from celery.worker.request import Request

from jaas_submit.errors import JobCancelled, JobFailed, SpecError
from jaas_submit.messaging import messages
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import TASK_RUN
from jaas_worker.messaging.delivery import RetryNotice, current_result
from jaas_worker.messaging.kept_messages import TAKEN_OVER, is_checked, spec_in

__all__ = ["JobRequest", "register"]

_ENDS: Final = frozenset({"task-succeeded", "task-failed", "task-retried", "task-revoked"})
"""Events after which a task or its attempt is over."""

_BATCH_ID: Final = re.compile(r"[0-9a-f-]{36}\Z")


class JobRequest(Request):
    """A request that never shows the values of a job's environment: not in events, logs or `inspect`."""

    _kwargs: Any
    _argsrepr: str
    _kwargsrepr: str
    _request_dict: dict[str, Any]
    told: str = ""
    """The result that Flower shows, for any outcome: Celery has one for a success only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._request_dict.get(messages.WAKEUP):  # our own client has already removed secret values
            return
        spec = self._kwargs.get("spec") if isinstance(self._kwargs, dict) else None
        try:
            options = messages.task_options(spec_in(spec), *self._batch())
        except SpecError:
            options = {"argsrepr": "(...)", "kwargsrepr": "(not a valid job description)"}
        self._argsrepr, self._kwargsrepr = options["argsrepr"], options["kwargsrepr"]
        self._request_dict.update(options)

    def _batch(self) -> tuple[str, int | None]:
        """Return the batch that the message names, and the job's index in it; the sender may have written anything."""
        batch, index = self._request_dict.get(messages.BATCH), self._request_dict.get(messages.INDEX)
        if not isinstance(batch, str) or not _BATCH_ID.match(batch):
            return "", None
        return batch, index if isinstance(index, int) else None

    def send_event(self, type: str, **fields: Any) -> None:
        if self.told and type in _ENDS:
            fields["result"] = self.told
        super().send_event(type, **fields)

    def revoked(self) -> bool:
        return not self._request_dict.get(TAKEN_OVER) and bool(super().revoked())

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002 (Celery's signature)
        return super().info(safe=True)


def register(app: celery.Celery) -> None:
    """Register `jaas.run` with an app."""

    @app.task(
        name=TASK_RUN,
        bind=True,
        shared=False,  # otherwise every app of this process would have it
        # The ledger holds the job from its claim on, so the message is acknowledged then: no visibility time-out
        # applies, and a dropped connection starts nothing twice.
        acks_late=False,
        ignore_result=False,
        max_retries=0,
        throws=(JobFailed,),
        # Celery would convert the result to a text for a log line and an event that jaas replaces.
        resultrepr_maxsize=16,
    )
    def run(task: Any, *_: Any, **__: Any) -> Any:
        result = current_result()
        if result is None:
            raise RuntimeError(
                f"{TASK_RUN} needs the pool jaas_worker.messaging.pool:TaskPool; start it with `jaas worker`"
            )
        if isinstance(result, RetryNotice):
            raise Retry(result.why, exc=JobFailed(result.why), when=datetime.now(UTC) + timedelta(seconds=result.delay))
        check = is_checked(task.request.kwargs) if result.image else True
        if not result.ok and check:
            kind = JobCancelled if result.state is JobState.CANCELLED else JobFailed
            raise kind(result.sentence())
        return result.to_wire()

    run.Request = JobRequest  # type: ignore[assignment] # a class is as good as its name
