"""What the steps of a job's life need, without threads and without Redis: ledger, message and clock of the test."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Claim, ClaimAction, Note, SentFile
from jaas_submit.ledger.queries import Outline
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import Attempt, JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState
from jaas_worker.lifecycle.tracked_job import TrackedJob
from jaas_worker.lifecycle.worker_context import Clock, WorkerContext
from jaas_worker.settings import Settings
from jaas_worker.telemetry.metrics import Metrics
from jaas_worker.telemetry.tracing import NoTracer
from tests.support.fake_swarm import FakeSwarm

__all__ = ["CREATED", "HOLDER", "ScriptedLedger", "ScriptedNotes", "StubDelivery", "World", "record_of"]

HOLDER = "me"
_USUAL: dict[str, Any] = {"resolve_images": False, "remove_delay": 0, "policy": "privileged"}
CREATED = datetime(2026, 11, 30, 12, tzinfo=UTC)


class StubDelivery:
    """A message, and a Celery that takes every result."""

    traceparent = ""
    defect = ""
    queue = ""

    def __init__(self, job_id: str, spec: JobSpec | Exception | None = None) -> None:
        self.job_id = self.task_id = job_id
        self.spec = spec
        self.wakeup = spec is None
        self.is_revoked = False
        self.hangs = ""
        self.takes_results = True
        self.results: list[JobResult] = []
        self.told: list[str] = []
        """Names of the methods that were called, in order."""
        self.is_dropped = threading.Event()

    def revoked(self) -> bool:
        return self.is_revoked

    def description(self) -> JobSpec:
        if isinstance(self.spec, Exception):
            raise self.spec
        assert self.spec is not None, "it is in the record"
        return self.spec

    def signed(self) -> str:
        return ""

    def message(self) -> str:
        return "the message"

    def accepted(self, *, first: bool = True) -> None:
        self.told.append("accepted")

    def running(self, node: str, attempt: int, service: str) -> None:
        self.told.append(f"running on {node}")

    def report(self, result: JobResult) -> bool:
        self.results.append(result)
        return self.takes_results

    def retrying(self, why: str, delay: float) -> bool:
        self.told.append("retrying")
        return True

    def done(self) -> None:
        self.told.append("done")

    def returned(self) -> None:
        self.told.append("returned")

    def follow_up(self) -> str:
        return self.hangs

    def adds_to(self, kept: str) -> bool:
        return bool(self.hangs) and self.hangs != kept

    def postponed(self) -> None:
        self.told.append("postponed")

    def dropped(self) -> None:
        self.told.append("dropped")
        self.is_dropped.set()


def record_of(job_id: str = "j", state: JobState = JobState.LAUNCHING, **fields: Any) -> JobRecord:
    """Return the record of a job that this worker holds."""
    usual: dict[str, Any] = {"spec": JobSpec(image="a"), "attempt": 1, "holder": HOLDER, "queue": "q"}
    times = {"created_at": CREATED, "updated_at": CREATED}
    return JobRecord(id=job_id, state=state, **{**usual, **times, **fields})


@dataclass
class ScriptedNotes:
    """What workers have noted of jobs."""

    notes: dict[str, Note] = field(default_factory=dict)
    """By the job's id."""
    full: str = ""
    """The limit that is reached."""
    asked: list[dict[str, int]] = field(default_factory=list)
    """For which places."""

    def get(self, job_id: str) -> Note:
        return self.notes.get(job_id, Note())

    def note_queue(self, job_id: str, queue: str) -> None:
        self.notes[job_id] = self.get(job_id)._replace(queue=self.get(job_id).queue or queue)

    def pin_image(self, job_id: str, image: str) -> None:
        self.notes[job_id] = self.get(job_id)._replace(image=image)

    def note_like(self, job_id: str, fields: str) -> str:
        self.notes[job_id] = self.get(job_id)._replace(like=self.get(job_id).like or fields)
        return self.notes[job_id].like

    def take_places(self, job_id: str, limits: Mapping[str, int]) -> str:
        self.asked.append(dict(limits))
        return self.full


@dataclass
class ScriptedFiles:
    """What producers have sent."""

    found: SentFile | None = None

    def find(self, digest: str) -> SentFile | None:
        return self.found


@dataclass
class ScriptedLedger:
    """A ledger that answers as the test says, and keeps what it is asked to write."""

    claims: list[Claim] = field(default_factory=list)
    """Answers to claims, in order; the last one is repeated."""
    record: JobRecord = field(default_factory=record_of)
    """The only job's."""
    refuses: bool = False
    """Writes are not taken: another worker has the job."""
    must_end: str = ""
    """Why an attempt may not be followed by another."""
    age: float = 0.0
    """Seconds since CREATED."""
    message: str = ""
    """The message that is kept."""
    away: int = 0
    """How many calls fail, as Redis does not answer."""
    stale: bool = False
    """What was written is not on the replicas."""
    ended_attempts: frozenset[int] = frozenset({1})
    writes: list[tuple[Any, ...]] = field(default_factory=list)
    known_workers: list[dict[str, Any]] = field(default_factory=list)
    """What the workers say of themselves."""
    platforms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What images run on."""
    noted: ScriptedNotes = field(default_factory=ScriptedNotes)
    sent_files: ScriptedFiles = field(default_factory=ScriptedFiles)

    def _call(self, *what: Any) -> bool:
        if self.away:
            self.away -= 1
            raise LedgerUnavailable("Redis does not answer (test)")
        self.writes.append(what)
        return not self.refuses

    def names(self) -> list[str]:
        """Return which writes there were, in order."""
        return [write[0] for write in self.writes]

    @property
    def submission(self) -> ScriptedLedger:
        return self

    ownership = maintenance = queries = submission

    @property
    def notes(self) -> ScriptedNotes:
        return self.noted

    def identity(self) -> str:
        return "x"

    def save_platforms(self, image: str, platforms: Sequence[str]) -> None:
        self.platforms[image] = tuple(platforms)

    def now(self) -> float:
        return CREATED.timestamp() + self.age

    def claim(self, job_id: str, holder: str) -> Claim:
        self._call("claim")
        return self.claims.pop(0) if len(self.claims) > 1 else self.claims[0]

    def create(
        self, job_id: str, spec: JobSpec | None, queue: str, task_id: str = "", message: str = "", signed: str = ""
    ) -> bool:
        return self._call("create", spec, message)

    def get(self, job_id: str) -> JobRecord:
        return self.record

    def find(self, job_ids: Sequence[str]) -> list[JobRecord]:
        return [self.record]

    def gathered(self, batch_id: str, first: int, count: int) -> list[JobRecord]:
        return [self.record]

    def outlines(self, job_ids: Sequence[str]) -> list[Outline]:
        return [Outline("j", self.record.state, 0.0, False, self.ended_attempts, False)]

    def workers(self) -> list[dict[str, Any]]:
        return self.known_workers

    def logs(self, job_id: str, attempt: int) -> Logs | None:
        return None

    def cancel(self, job_id: str, why: str) -> tuple[JobState, bool]:
        self._call("cancel", why)
        return JobState.LAUNCHING, True

    def release(self, job_id: str, holder: str, pause: float = 0.0) -> bool:
        return self._call("release", pause)

    def move(self, job_id: str, holder: str, to: JobState, *, detail: str = "", **fields: object) -> bool:
        return self._call("move", to, {**({"detail": detail} if detail else {}), **fields})

    def finish(
        self,
        job_id: str,
        holder: str,
        attempts: Sequence[Attempt],
        logs: Logs | None = None,
        output: str | None = None,
        *,
        late: bool = False,
    ) -> JobRecord | None:
        if not self._call("finish", attempts[-1], late):
            return None
        self.record = self.record.model_copy(update={"state": attempts[-1].state, "attempts": tuple(attempts)})
        return self.record

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
    ) -> tuple[bool, str]:
        done = self._call("back_off", attempts[-1], delay)
        return done and not self.must_end, self.must_end

    def foreign_message(self, job_id: str) -> str:
        return self.message

    def mark_reported(self, job_id: str, holder: str) -> bool:
        return self._call("reported")

    def replicated(self) -> bool:
        return not self.stale


class World:
    """A worker without threads, with one job.

    Args:
        record: what the ledger says of the job.
        action: what it answers to a claim.
        settings: of the worker.
    """

    def __init__(self, record: JobRecord | None = None, action: str = "launch", **settings: Any) -> None:
        self.now = 1000.0
        """The present moment, by the monotonic clock."""
        self.engine = FakeSwarm(("node1", "node2"))
        record = record or record_of()
        self.ledger = ScriptedLedger([Claim(ClaimAction(action), "QUEUED", record)], record)
        made = Settings(redis_url="redis://unused", **{**_USUAL, **settings})
        clock = Clock(lambda: self.now, lambda: CREATED.timestamp() + self.ledger.age)
        self.context = WorkerContext(
            made, self.ledger, self.engine, HOLDER, Metrics(), NoTracer(), clock=clock, lease_until=self.now + 15
        )
        self.delivery = StubDelivery("j")
        self.job = TrackedJob("j", self.delivery)
