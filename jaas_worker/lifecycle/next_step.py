"""What a step returns: what comes next in a job's life. Plain values; ``StepExecutor`` carries them out."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Ask the ledger for the job; what failed before the job was tracked begins here once more."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Create the service of an attempt, or find it by its name."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Go on with an attempt whose service existed when its former holder went away."""

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
    """Read the output of a container whose exit another node has told of."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class CheckPending:
    """End an attempt that has waited for too long, unless it runs by now."""


@dataclass(frozen=True, slots=True)
class SendStop:
    """Ask the swarm to stop the container."""


@dataclass(frozen=True, slots=True)
class RemoveStuck:
    """Remove the service of a container that does not stop in time."""


@dataclass(frozen=True, slots=True)
class Finish:
    """End the attempt as its task did."""

    task: TaskView
    times: ContainerTimes | None = None
    """Of its container, where they are at hand."""
    logs: Logs | None = None
    """Its output, where it is at hand."""


@dataclass(frozen=True, slots=True)
class End:
    """Write the end of the attempt into the ledger."""

    outcome: Outcome
    logs: Logs | None = None
    """Its output; None where there can be none."""


@dataclass(frozen=True, slots=True)
class LostOwnership:
    """The ledger did not take what this worker wrote: find out why."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The job's copy has ended it (speculation): remove what still runs, and report."""


@dataclass(frozen=True, slots=True)
class Report:
    """Bring the result of the job to Celery."""

    record: JobRecord | None = None
    """The record after its end, where it is at hand; good for one try, as Redis may come back older."""
    logs: Logs | None = None
    """The last attempt's output, where it is at hand."""


@dataclass(frozen=True, slots=True)
class TellRetry:
    """Tell Celery that another attempt follows."""

    why: str
    delay: float
    """Seconds until then."""


@dataclass(frozen=True, slots=True)
class RemoveService:
    """Remove what an attempt that has ended has left in the swarm."""


# -- what the executor does itself ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing is to be done: another worker has the job, or it is over."""


@dataclass(frozen=True, slots=True)
class Track:
    """The service exists: follow it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Have the attempt end before its time, once."""

    request: StopRequest


@dataclass(frozen=True, slots=True)
class SwarmJudges:
    """An end is near of which only the swarm can say how it was."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Celery has been told: forget the job."""

    delivery: Delivery
    """The message through which Celery was told. A copy may have taken its place meanwhile."""


@dataclass(frozen=True, slots=True)
class Aside:
    """Take a step on another thread, once, while the job stays as it is; with ``then`` go on at once with that.

    Nothing depends on the step: should it fail, something else does the same later.
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
"""What comes next. A step that returns None leaves the job as it is."""
