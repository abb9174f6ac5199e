"""What a step returns: the next step of a job. Plain values; ``StepExecutor`` carries them out."""

from __future__ import annotations

from dataclasses import dataclass

from jaas_submit.model.files.listing import OutputFiles
from jaas_submit.model.logs import Logs
from jaas_submit.model.records import JobRecord, Outcome
from jaas_submit.model.states import JobState
from jaas_worker.decisions.end_belief import Evidence
from jaas_worker.decisions.task_outcome import StopRequest
from jaas_worker.lifecycle.tracked_job import Delivery
from jaas_worker.swarm.engine import ContainerTimes, TaskView

__all__ = [
    "Adopt",
    "Aside",
    "AskEngine",
    "CheckPending",
    "Claim",
    "Collect",
    "Drop",
    "End",
    "Finish",
    "Launch",
    "LostOwnership",
    "Next",
    "ReadOutput",
    "RemoveService",
    "RemoveStuck",
    "Report",
    "Reported",
    "SendStop",
    "Stop",
    "Superseded",
    "SwarmJudges",
    "TellRetry",
    "Track",
]


# -- steps: each is a function of one of the modules beside this one --------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask the ledger for the job; a step that failed before the job was tracked restarts here."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Create the service of an attempt, or find it by its name."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Continue an attempt whose service existed when its former holder died or stopped."""

    state: JobState
    since: float
    """When the attempt began to wait (its claim, where that was noted) or to run, in seconds since the epoch by Redis'
    clock."""


@dataclass(frozen=True, slots=True)
class AskEngine:
    """Ask this worker's engine how a container ended."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class ReadOutput:
    """Read the output of a container whose exit was forwarded."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class CheckPending:
    """End an attempt whose `pending_timeout` has passed, unless it runs by now."""


@dataclass(frozen=True, slots=True)
class SendStop:
    """Ask the swarm to stop the container."""


@dataclass(frozen=True, slots=True)
class RemoveStuck:
    """Remove the service of a container that does not stop in time."""


@dataclass(frozen=True, slots=True)
class Finish:
    """End the attempt with its task's outcome."""

    task: TaskView
    times: ContainerTimes | None = None
    """Of its container, if known."""
    logs: Logs | None = None
    """Its output, if already read."""
    scrubbed: bool = False
    """The agent that has read it has looked for the values of secrets in all of it."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Copy the attempt's files to the store, on a thread for that."""

    outcome: Outcome
    logs: Logs
    whole_output: bool = False
    """Its output, too: the record has only head and tail."""


@dataclass(frozen=True, slots=True)
class End:
    """Record the attempt's outcome in the ledger."""

    outcome: Outcome
    logs: Logs | None = None
    """Its output; None if it had no container."""
    files: OutputFiles | None = None
    """What it handed out; None if it was not asked to, or had no container."""


@dataclass(frozen=True, slots=True)
class LostOwnership:
    """The ledger rejected this worker's write: find out why."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The job's copy has ended it (speculation): remove its service, and report."""


@dataclass(frozen=True, slots=True)
class Report:
    """Report the result of the job to Celery."""

    record: JobRecord | None = None
    """The record after its end, if already read; valid for one try, as Redis may come back with older data."""
    logs: Logs | None = None
    """The last attempt's output, if already read."""
    again: bool = False
    """Celery has the result, and another message with the same task id asks for it."""


@dataclass(frozen=True, slots=True)
class TellRetry:
    """Tell Celery that another attempt follows."""

    why: str
    delay: float
    """Seconds until then."""


@dataclass(frozen=True, slots=True)
class RemoveService:
    """Remove the service and config of an ended attempt."""


# -- what the executor does itself ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing is to be done: another worker holds the job, or it has ended."""

    postponed: bool = False
    """Its task id was used before, so it is delivered again later, until that job has ended."""


@dataclass(frozen=True, slots=True)
class Track:
    """The service exists: follow it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the attempt early, once."""

    request: StopRequest


@dataclass(frozen=True, slots=True)
class SwarmJudges:
    """An exit is near that only the swarm can report."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Celery has the result: forget the job."""

    delivery: Delivery
    """The message that was used to report. A duplicate may have replaced it meanwhile."""


@dataclass(frozen=True, slots=True)
class Aside:
    """Take a step on another thread, once; the job stays unchanged. Continue at once with ``then``, if given.

    The step is optional: if it fails, another part does the same later.
    """

    step: AskEngine | ReadOutput | CheckPending | SendStop | RemoveStuck | RemoveService
    after: float = 0.0
    """Seconds until it is taken."""
    then: Report | TellRetry | None = None


Next = (
    Claim
    | Launch
    | Adopt
    | AskEngine
    | ReadOutput
    | CheckPending
    | SendStop
    | RemoveStuck
    | Finish
    | Collect
    | End
    | LostOwnership
    | Superseded
    | Report
    | TellRetry
    | RemoveService
    | Drop
    | Track
    | Stop
    | SwarmJudges
    | Reported
    | Aside
)
"""The next step. None leaves the job unchanged."""
