"""The Celery task `jaas.run`. Its body runs when the container has ended; it only turns the result into Celery's."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import celery
from celery.exceptions import Retry
from celery.worker.request import Request

from jaas_submit.errors import JobCancelled, JobFailed, SpecError
from jaas_submit.messaging import messages
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import TASK_RUN
from jaas_worker.messaging.delivery import RetryNotice, current_result
from jaas_worker.messaging.kept_messages import TAKEN_OVER

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
    """What Flower is to show as the task's result, however it ended: Celery has one for a success only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._request_dict.get(messages.WAKEUP):  # our own client has written what people may see
            return
        spec = self._kwargs.get("spec") if isinstance(self._kwargs, dict) else None
        try:
            options = messages.task_options(JobSpec.parse(spec), *self._batch())
        except SpecError:
            options = {"argsrepr": "(...)", "kwargsrepr": "(not a valid job description)"}
        self._argsrepr, self._kwargsrepr = options["argsrepr"], options["kwargsrepr"]
        self._request_dict.update(options)

    def _batch(self) -> tuple[str, int | None]:
        """Return the batch that the message names, and the job's index in it; whoever sent it may have written any."""
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
        # The ledger remembers the job from the moment of its claim, so that the message is acknowledged then: no
        # visibility time-out, and no second start after a dropped connection.
        acks_late=False,
        ignore_result=False,
        max_retries=0,
        throws=(JobFailed,),
        # Celery makes a text of what the task returns for a log line and an event that say something else here.
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
        check = task.request.kwargs.get("spec", {}).get("check", True) if result.image else True
        if not result.ok and check:
            kind = JobCancelled if result.state is JobState.CANCELLED else JobFailed
            raise kind(result.sentence())
        return result.to_wire()

    run.Request = JobRequest  # type: ignore[assignment] # a class is as good as its name
