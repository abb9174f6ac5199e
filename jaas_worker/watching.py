"""What the tracker sees of a job's task, brought into the ledger; it begins the job's end when the task has ended."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import Any

from jaas_submit.errors import EngineRefused, TemporaryError, UnreadableRecord
from jaas_submit.logs import Logs, LogStatus
from jaas_submit.states import JobState
from jaas_worker.context import Context
from jaas_worker.engine import ContainerTimes, EngineEvent, TaskView
from jaas_worker.entry import Entry, Phase
from jaas_worker.failpoints import failpoint
from jaas_worker.finishing import Finishing
from jaas_worker.inflight import InFlight
from jaas_worker.logs import collect
from jaas_worker.logsetup import Action, about_job, action
from jaas_worker.neighbours import Neighbours
from jaas_worker.observe import ended_here, parse_time, waiting_reason
from jaas_worker.stopping import Stopping

__all__ = ["Watching"]

logger = logging.getLogger(__name__)

_PATIENCE = 2.0
"""Seconds for the output of a container of whose end another node's worker has told: the swarm tells of it anyway."""


class Watching:
    """The tracker's listener.

    Args:
        context: the worker.
        flight: its jobs.
        finishing: writes ends down.
        stopping: looks at what is overdue.
        neighbours: tells other workers of their containers' ends.
    """

    def __init__(
        self,
        context: Context,
        flight: InFlight,
        finishing: Finishing,
        stopping: Stopping,
        neighbours: Neighbours,
    ) -> None:
        self._context = context
        self._flight = flight
        self._finishing = finishing
        # A node that cannot be reached just now must not keep all threads waiting for its containers' output.
        threads = context.settings.finish_threads
        self._reading = threading.Semaphore(threads // 4 or int(threads > 1))
        self.tick = stopping.tick
        self.died_here = neighbours.died_here

    def task_waiting(self, entry: Entry, task: TaskView, *, starting: bool) -> None:
        """Note why the task waits; one that no node can take does not count as starting."""
        if not starting:
            self._flight.started(entry, ran=False)
        detail = waiting_reason(task)
        if detail and detail != entry.detail and entry.phase is Phase.TRACKED:
            self._note(entry, entry.state, detail=detail)
            entry.detail = detail

    def task_running(self, entry: Entry, task: TaskView) -> None:
        """Note that the container runs, and where."""
        self._flight.started(entry, ran=True)
        if entry.lost is not None:  # its node is back
            entry.lost = entry.lost_since = None
            entry.check_at = 0.0
            self._note(entry, entry.state, detail="")
            entry.detail = ""
        if entry.running_since is not None or entry.phase is not Phase.TRACKED:
            return
        entry.started_at = parse_time(task.timestamp)
        entry.node = self._context.node_name(task.node_id)
        started = entry.started_at.timestamp() if entry.started_at else ""
        failpoint("running.before")
        self._note(entry, JobState.RUNNING, node=entry.node or "", started_at=started)
        failpoint("running.after")
        entry.running_since = time.monotonic()
        entry.check_at = 0.0
        entry.state = JobState.RUNNING
        logger.info(
            "job %s: running on %s",
            entry.job_id,
            entry.node or "?",
            extra=action(Action.JOB_RUNNING, node=entry.node, service=entry.service),
        )
        entry.delivery.running(entry.node or "?", entry.attempt, entry.service)

    def container_died(self, entry: Entry, task: TaskView, event: EngineEvent, *, here: bool) -> None:
        """Begin to write the end down, or leave it to the swarm where that has to judge it.

        Args:
            entry: the job.
            task: as the swarm shows it.
            event: the end, as the container's engine tells it.
            here: it ran on this engine.
        """
        if entry.spec is None or entry.spec.healthcheck:
            self._flight.look_soon()  # the swarm may have stopped it for its health
        elif not here:
            if self._reading.acquire(blocking=False):  # else the swarm's word will do
                self._flight.submit(self._was_told, entry, task, event)
        elif event.exit_code == 0 and entry.began and event.at:  # of others the engine knows whether memory ran out
            times = ContainerTimes(entry.began, event.at, oom_killed=False, exit_code=0)
            self._died(entry, ended_here(task, times), times)
        else:
            # The engine answers when it has cleaned up behind the container: not a call for the tracker's thread.
            self._flight.submit(self._ask_how_it_ended, entry, task)

    @about_job
    def _ask_how_it_ended(self, entry: Entry, task: TaskView) -> None:
        assert task.container_id is not None
        try:
            times = self._context.engine.container_times(task.container_id)
        except (TemporaryError, EngineRefused):
            times = None
        self._died(entry, ended_here(task, times), times)

    @about_job
    def _was_told(self, entry: Entry, task: TaskView, told: EngineEvent) -> None:
        try:
            if entry.phase is Phase.TRACKED and entry.stop is None:
                self._believe(entry, task, told)
        except Exception:  # the swarm will tell as well
            logger.exception("job %s: what was told of its end", entry.job_id, extra=action(Action.STEP_FAILED))
        finally:
            self._reading.release()

    def _believe(self, entry: Entry, task: TaskView, told: EngineEvent) -> None:
        times, logs = ContainerTimes(task.timestamp, told.at, oom_killed=False, exit_code=told.exit_code), None
        ended = ended_here(task, times)
        if ended.ended:
            # If the swarm cannot reach that node now, it will tell of the end when it can, and the output is there.
            settings = self._context.settings
            patience = min(_PATIENCE, settings.log_timeout)
            frames = self._context.engine.logs(entry.service_id, None, patience)
            logs = collect(frames, settings.log_limit)
            if logs.status is LogStatus.UNAVAILABLE:
                return
        self._died(entry, ended, times, logs)

    def _died(self, entry: Entry, task: TaskView, times: ContainerTimes | None, logs: Logs | None = None) -> None:
        if task.ended and entry.stop is None:
            self.task_ended(entry, task, times, logs)
        else:
            self._flight.look_soon()

    def task_ended(
        self, entry: Entry, task: TaskView, times: ContainerTimes | None = None, logs: Logs | None = None
    ) -> None:
        """Begin to write the end down.

        Args:
            entry: the job.
            task: its task, which has ended.
            times: of its container, where they are at hand.
            logs: its output, where it is at hand.
        """
        if self._flight.finish_by(entry, partial(self._finishing.finish, task=task, times=times, logs=logs)):
            self._flight.started(entry, ran=task.container_id is not None)

    @about_job
    def service_gone(self, entry: Entry) -> None:
        """Somebody removed the service, or a stop that took too long did."""
        self._finishing.gone(entry)

    def _note(self, entry: Entry, state: JobState, **fields: Any) -> None:
        """Write an observation down; one that cannot be written now is seen again in the next round."""
        try:
            if not self._context.ledger.ownership.move(entry.job_id, self._context.holder, state, **fields):
                self._flight.taken_away(entry)
        except UnreadableRecord as error:  # the other jobs must be followed all the same
            self._flight.abandon(entry, error)

    def node_lost(self, entry: Entry, task: TaskView) -> None:
        """Note that nothing is known of the container until its node is back."""
        self._flight.started(entry, ran=False)
        if entry.lost is None and entry.phase is Phase.TRACKED:
            if task.node_id not in self._context.engine.down_nodes():
                return  # being stopped by the swarm: a drain, or somebody's update
            node = self._context.node_name(task.node_id) or task.node_id
            detail = f"node {node} is down: whether the container still runs is unknown"
            logger.warning("job %s: %s", entry.job_id, detail, extra=action(Action.JOB_NODE_LOST, node=node))
            self._note(entry, entry.state, detail=detail)
            entry.detail, entry.node, entry.lost_since = detail, node, time.monotonic()
            entry.lost = task
            entry.check_at = 0.0
