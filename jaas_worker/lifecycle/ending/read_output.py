"""What an attempt printed: as the agent of its node found it, or as the worker reads it itself."""

from __future__ import annotations

from dataclasses import replace

from jaas_submit.errors import EngineUnavailable
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.output import WholeOutput
from jaas_worker.decisions.engine_restart import node_came_back
from jaas_worker.decisions.job_output import output_not_kept
from jaas_worker.decisions.secrecy.scrubbing import scrubbed
from jaas_worker.decisions.task_outcome import output_lost
from jaas_worker.lifecycle.next_step import Finish
from jaas_worker.lifecycle.tracked_job import TrackedJob
from jaas_worker.lifecycle.worker_context import WorkerContext
from jaas_worker.swarm.container_logs import read_logs
from jaas_worker.swarm.engine import TaskView
from jaas_worker.swarm.request.secret_env import values_in_request
from jaas_worker.tracking.node_output import logs_of

__all__ = ["agent_logs", "found_by_agent", "output_of", "unless_node_came_back", "without_secrets"]

_TRIES_AFTER_OUTAGE = 3
"""How often the output of a container whose node was away is read again when there is none. The swarm has been seen to
hand out nothing, without an error, in the first second after the node's return."""

_TRIES_OF_AGENT = 3
"""How often another process's agent is waited for, which may still read a large output; some three seconds."""

_TRIES_OF_OWN_AGENT = 15
"""The same for this process's agent; some two minutes. An engine hands out 55,000 lines a second."""
_AGENT_WAIT_S = 2.0  # how long a thread waits for this process's agent


def unless_node_came_back(job: TrackedJob, logs: Logs, task: TaskView, world: WorkerContext) -> Logs:
    """Return an empty output as it is, unless its node has just come back: its engine may have lost the output."""
    if not node_came_back(world.engine.node_change(task.node_id), task, job.started_at):
        return logs
    if job.tries < _TRIES_AFTER_OUTAGE:
        raise EngineUnavailable("reading logs: its node has just come back, and hands out no output yet")
    why = "its node came back then or later, and hands out no output: there was none, or it is lost"
    return replace(logs, status=LogStatus.UNAVAILABLE, reason=why)


def found_by_agent(
    job: TrackedJob, container_id: str, node_id: str, world: WorkerContext, *, here: bool
) -> WholeOutput | None:
    """Return what the agent of its node found of an attempt's container; None if there is none, or it is too slow.

    Args:
        job: the job.
        container_id: the attempt's container, as the swarm's task names it.
        node_id: the node of that task.
        world: the worker.
        here: the container is known to this worker's engine, so that it can be read without an agent.

    Raises:
        TemporaryError: Redis does not answer, or the agent is not ready yet.
    """
    try:
        found = world.outputs.find(job.job_id, job.attempt, container_id, node_id, _AGENT_WAIT_S)
    except EngineUnavailable:
        if job.tries < _TRIES_OF_OWN_AGENT:
            raise
        return None
    if found is None and not here and job.tries < _TRIES_OF_AGENT and world.outputs.expected(node_id):
        raise EngineUnavailable("reading output: the agent of its node has not reported it yet")
    return found


def agent_logs(whole: WholeOutput | None, *, here: bool) -> Logs | None:
    """Return the output that an agent found; None where the worker reads it itself.

    Args:
        whole: what an agent found of the container; it knows what the container used even where it could not read.
        here: the container is known to this worker's engine.
    """
    return None if here and whole is not None and whole.status == LogStatus.UNAVAILABLE else logs_of(whole)


def output_of(job: TrackedJob, step: Finish, world: WorkerContext, *, here: bool) -> Logs:
    """Return what an attempt printed, and whether that is all.

    Args:
        job: the job.
        step: its task, which has ended.
        world: the worker.
        here: its container is known to this worker's engine.
    """
    task, service, settings = step.task, job.service, world.settings
    assert service is not None
    logs, driver = step.logs, world.service_defaults.log_driver.changed_by(job.spec)
    if logs is None:
        cap, timeout = settings.log_limit, settings.log_timeout
        logs = read_logs(world.engine, service.id, task.container_id, cap, timeout, driver)
    if logs.lines or logs.status is not LogStatus.COMPLETE or not task.container_id:
        return logs
    # Of another engine's container the worker is handed out nothing, and no error, whether it printed nothing or not.
    why = output_lost(task, job.away_since) or driver.unreadable
    if not (why or here or driver.name):
        own = world.outputs.log_driver(task.node_id)
        why = output_not_kept(task.node_id, {task.node_id: own} if own else world.log_drivers())
    if not (why or here) and world.outputs.expected(task.node_id):
        why = "the agent of its node has not reported, and the swarm hands out no output: there was none, or it is lost"
    if why:
        return replace(logs, status=LogStatus.UNAVAILABLE, reason=why)
    if job.away_since and job.tries < _TRIES_AFTER_OUTAGE:
        raise EngineUnavailable("reading logs: its node was away, and hands out no output yet")
    return logs


def without_secrets(job: TrackedJob, logs: Logs, world: WorkerContext) -> Logs:
    """Return an output in which the values of a job's secret variables are replaced, if it asks for that.

    The agent of its node has done so, too, unless it is of an older version. The values are those that the service was
    created with.

    Args:
        job: the job.
        logs: its output.
        world: the worker.

    Raises:
        EngineUnavailable: the engine does not answer.
    """
    spec = job.spec
    if spec is None or not (spec.scrub and spec.env_secrets and logs.lines):
        return logs
    request = world.engine.request_of(job.service.id) if job.service else None
    if request is None:
        why = "its service is gone, so that nobody knows the values that are to be replaced in it (scrub)"
        return Logs(status=LogStatus.UNAVAILABLE, reason=why)
    return scrubbed(logs, values_in_request(request))
