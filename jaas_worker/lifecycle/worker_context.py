"""What the steps of a job's life need of the worker: the sides that it talks to, as protocols, and who it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple, Protocol

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Claim, Note, SentFile
from jaas_submit.ledger.queries import Outline
from jaas_submit.model.files.listing import OutputFiles
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import Attempt, JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_LEDGER
from jaas_submit.output import FileRequest, WholeOutput
from jaas_submit.policy.document import Policy
from jaas_submit.signing import NO_GATE, Gate
from jaas_submit.storage.store import Store
from jaas_worker.admission.gate import PolicyGate
from jaas_worker.admission.loading import load_policy
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine, ResolvedImage
from jaas_worker.swarm.files.shared_configs import SharedConfigs
from jaas_worker.swarm.service_spec import ServiceDefaults
from jaas_worker.telemetry.metrics import Metrics
from jaas_worker.telemetry.tracing import Tracer
from jaas_worker.tracking.tracked_service import ServiceRef

__all__ = ["Clock", "ImageCache", "JobLedger", "NoOutputs", "Outputs", "ServiceTracker", "WorkerContext"]

_IMAGES_MOST = 1000
"""Number of cached answers of registries before expired ones are dropped."""

_IMAGE_KEPT_S = 10.0
_LOG_DRIVERS_KEPT_S = 10.0
_SILENCE_KEPT_S = 60.0
"""Seconds for which a registry's answer is cached, and a missing answer."""


class _Submission(Protocol):
    def create(
        self, job_id: str, spec: JobSpec | None, queue: str, task_id: str = "", message: str = "", signed: str = ""
    ) -> bool: ...
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
    def foreign_message(self, job_id: str) -> str: ...


class _Maintenance(Protocol):
    def identity(self) -> str: ...
    def save_platforms(self, image: str, platforms: Sequence[str]) -> None: ...


class _Notes(Protocol):
    def get(self, job_id: str) -> Note: ...
    def note_queue(self, job_id: str, queue: str) -> None: ...
    def pin_image(self, job_id: str, image: str) -> None: ...
    def note_like(self, job_id: str, fields: str) -> str: ...
    def take_places(self, job_id: str, limits: Mapping[str, int]) -> str: ...


class _Queries(Protocol):
    def get(self, job_id: str) -> JobRecord: ...
    def find(self, job_ids: Sequence[str]) -> list[JobRecord]: ...
    def gathered(self, batch_id: str, first: int, count: int) -> list[JobRecord]: ...
    def outlines(self, job_ids: Sequence[str]) -> list[Outline]: ...
    def logs(self, job_id: str, attempt: int) -> Logs | None: ...
    def workers(self) -> list[dict[str, Any]]: ...


class _SentFiles(Protocol):
    def find(self, digest: str) -> SentFile | None: ...


class JobLedger(Protocol):
    """What the steps need of the ledger; ``jaas_submit.ledger.Ledger`` says what each part does."""

    @property
    def submission(self) -> _Submission: ...
    @property
    def ownership(self) -> _Ownership: ...
    @property
    def maintenance(self) -> _Maintenance: ...
    @property
    def notes(self) -> _Notes: ...
    @property
    def queries(self) -> _Queries: ...
    @property
    def sent_files(self) -> _SentFiles: ...
    def now(self) -> float: ...
    def replicated(self) -> bool: ...


class Outputs(Protocol):
    """What agents found of containers; ``jaas_worker.agent.outputs.AgentOutputs`` says what each does."""

    def start(self) -> None: ...
    def close(self) -> None: ...
    def find(
        self, job_id: str, attempt: int, container_id: str, node_id: str, timeout: float
    ) -> WholeOutput | None: ...
    def expected(self, node_id: str) -> bool: ...
    def log_driver(self, node_id: str) -> str: ...
    def drop(self, job_id: str, attempt: int) -> None: ...
    def collect(self, wanted: FileRequest, until: float, still_ours: Callable[[], bool]) -> OutputFiles | None: ...
    def collect_output(self, wanted: FileRequest, until: float, still_ours: Callable[[], bool]) -> str | None: ...


class NoOutputs:
    """There are no agents."""

    def start(self) -> None: ...
    def close(self) -> None: ...
    def find(self, *_: object) -> None: ...

    def expected(self, _node_id: str) -> bool:
        return False

    def log_driver(self, _node_id: str) -> str:
        return ""

    def drop(self, job_id: str, attempt: int) -> None: ...

    def collect(self, *_: object) -> OutputFiles:
        return OutputFiles(status=LogStatus.UNAVAILABLE, reason="there is no agent")

    def collect_output(self, *_: object) -> str:
        return "there is no agent"


class ServiceTracker(Protocol):
    """What the executor needs of the tracker; ``jaas_worker.tracking.tracker.Tracker`` says what each does."""

    def watch(self, ref: ServiceRef) -> None: ...
    def stopping(self, ref: ServiceRef) -> None: ...
    def forget(self, ref: ServiceRef) -> None: ...
    def look_soon(self) -> None: ...


class Clock(NamedTuple):
    """The clock of the steps."""

    monotonic: Callable[[], float] = time.monotonic
    time: Callable[[], float] = time.time
    """Seconds since the epoch."""


class ImageCache:
    """A cache of registries' answers about images. Threads may share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None], tuple[float, ResolvedImage]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(
        self, image: str, registry: str | None, now: float, ask: Callable[[str, str | None], ResolvedImage]
    ) -> ResolvedImage:
        """Return the image that a tag stands for.

        Args:
            image: a reference as in a job description.
            registry: registry whose credentials are sent.
            now: the present moment, by the monotonic clock.
            ask: asks the registry, if no answer is cached.
        """
        until, found = self._known.get((image, registry), (0.0, ResolvedImage()))
        if now >= until:
            found = ask(image, registry)
            if len(self._known) >= _IMAGES_MOST:
                for key, (over, _) in list(self._known.items()):
                    if over <= now:
                        self._known.pop(key, None)
            self._known[image, registry] = (now + (_SILENCE_KEPT_S if found.problem else _IMAGE_KEPT_S), found)
        return found


@dataclass
class WorkerContext:
    """A worker process, as the steps see it.

    Args:
        settings: the worker's settings.
        ledger: the records.
        engine: the swarm.
        holder: name of this worker process in the ledger; no other process has ever had it.
        metrics: of this worker.
        tracer: of this worker.
        store: for large values; None if there is none.
        clock: tells the time.
        outputs: what agents found.
        signatures: asked of each job's signature before its launch and its adoption.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """

    settings: Settings
    ledger: JobLedger
    engine: Engine
    holder: str
    metrics: Metrics
    tracer: Tracer
    store: Store | None = None
    clock: Clock = field(default_factory=Clock)
    outputs: Outputs = field(default_factory=NoOutputs)
    policy: Policy | None = None
    """What jobs may ask for; None: what the settings say."""
    signatures: Gate = NO_GATE
    lease_until: float = 0.0
    """When this worker's lease runs out, by the monotonic clock."""
    created_at: float = field(default=-inf, init=False)
    """When this worker's engine last created a service, by the monotonic clock."""
    images: ImageCache = field(default_factory=ImageCache, init=False)
    service_defaults: ServiceDefaults = field(init=False)
    """What every service that this worker asks for has."""
    file_configs: SharedConfigs = field(init=False)
    """The swarm's configs with files of jobs."""
    gate: PolicyGate = field(init=False)
    """What each request for a service passes."""
    label: str = field(init=False)
    """Selects the services of this installation."""
    _nodes: dict[str, str] = field(default_factory=dict, init=False)
    _log_drivers: tuple[float, dict[str, str]] = field(default=(0.0, {}), init=False)

    def __post_init__(self) -> None:
        identity = self.ledger.maintenance.identity()
        self.service_defaults = ServiceDefaults.of(self.settings, identity, self.holder)
        self.file_configs = SharedConfigs(self.engine, self.service_defaults.installation)
        self.gate = PolicyGate(self.policy or load_policy(self.settings), self.engine, self.settings)
        self.label = f"{LABEL_LEDGER}={identity}"

    def node_name(self, node_id: str) -> str | None:
        """Return a node's host name; None for a node that the swarm does not know.

        Args:
            node_id: the swarm's id of it.
        """
        if node_id and node_id not in self._nodes:
            self._nodes = self.engine.node_names()
        return self._nodes.get(node_id)

    def node_id(self, name: str) -> str:
        """Return the id of a node that ``node_name`` has named; empty for another.

        Args:
            name: its host name.
        """
        return next((node_id for node_id, known in list(self._nodes.items()) if known == name), "")

    def log_drivers(self) -> dict[str, str]:
        """Return node id -> log driver of the engines whose workers have told it.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        until, known = self._log_drivers
        if self.clock.monotonic() >= until:
            told = self.ledger.queries.workers()
            known = {one["node_id"]: one["log_driver"] for one in told if one.get("node_id") and one.get("log_driver")}
            self._log_drivers = (self.clock.monotonic() + _LOG_DRIVERS_KEPT_S, known)
        return known

    def superseded(self, job_id: str, labels: Mapping[str, str]) -> bool:
        """Return whether this worker holds a job and its copy has ended it (speculation).

        Args:
            job_id: the job's id.
            labels: its place in its batch; only jobs of batches have copies.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        held = [one for one in self.ledger.queries.find([job_id]) if one.holder == self.holder] if labels else []
        return bool(held) and held[0].terminal

    def require_lease(self) -> float:
        """Return the present moment, by the monotonic clock.

        Raises:
            LedgerUnavailable: this worker's lease has expired: it was suspended, or Redis was away. Another worker may
                hold its jobs now, so the ledger has to be asked first.
        """
        now = self.clock.monotonic()
        if now >= self.lease_until:
            raise LedgerUnavailable("the lease has expired")
        return now
