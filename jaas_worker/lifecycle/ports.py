"""What the steps and the executor need of others, as protocols: tests put in what answers as they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from jaas_submit.ledger import Claim
from jaas_submit.ledger.queries import Outline
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import Attempt, JobRecord
from jaas_submit.model.states import JobState
from jaas_worker.tracking.tracked_service import ServiceRef

__all__ = ["JobLedger", "ServiceTracker"]


class _Submission(Protocol):
    def create(self, job_id: str, spec: JobSpec | None, queue: str, task_id: str = "", message: str = "") -> bool: ...
    def cancel(self, job_id: str, why: str) -> tuple[JobState, bool]: ...


class _Ownership(Protocol):
    def claim(self, job_id: str, holder: str) -> Claim: ...
    def release(self, job_id: str, holder: str, pause: float = 0.0) -> bool: ...
    def move(self, job_id: str, holder: str, to: JobState, *, detail: str = "", **fields: str | float) -> bool: ...
    def finish(
        self,
        job_id: str,
        holder: str,
        attempts: Sequence[Attempt],
        logs: Logs | None = None,
        output: str | None = None,
        *,
        late: bool = False,
    ) -> JobRecord | None: ...
    def back_off(
        self,
        job_id: str,
        holder: str,
        attempts: Sequence[Attempt],
        logs: Logs | None,
        delay: float | None,
        detail: str,
        *,
        late: bool = False,
    ) -> tuple[bool, str]: ...
    def mark_reported(self, job_id: str, holder: str) -> bool: ...


class _Maintenance(Protocol):
    def identity(self) -> str: ...


class _Queries(Protocol):
    def get(self, job_id: str) -> JobRecord: ...
    def find(self, job_ids: Sequence[str]) -> list[JobRecord]: ...
    def outlines(self, job_ids: Sequence[str]) -> list[Outline]: ...
    def logs(self, job_id: str, attempt: int) -> Logs | None: ...
    def workers(self) -> list[dict[str, Any]]: ...


class JobLedger(Protocol):
    """What the steps need of the ledger; ``jaas_submit.ledger.Ledger`` says what each part does."""

    @property
    def submission(self) -> _Submission: ...
    @property
    def ownership(self) -> _Ownership: ...
    @property
    def maintenance(self) -> _Maintenance: ...
    @property
    def queries(self) -> _Queries: ...
    def now(self) -> float: ...
    def replicated(self) -> bool: ...


class ServiceTracker(Protocol):
    """What the executor needs of the tracker; ``jaas_worker.tracking.tracker.Tracker`` says what each does."""

    def watch(self, ref: ServiceRef) -> None: ...
    def stopping(self, ref: ServiceRef) -> None: ...
    def forget(self, ref: ServiceRef) -> None: ...
    def look_soon(self) -> None: ...
