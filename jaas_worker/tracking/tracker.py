"""Follows all services of this worker with a few requests for all of them, never one per job.

Four sources:

* ``tasks_of``: the tasks of services that changed recently (launched, running, an event), in one request. Polled very
  often, because their next change is near.
* ``ended_tasks``: one filtered request that returns exactly the ended tasks. Polled often.
* ``all_tasks``: every task with its state: pending and why, running and where, gone. Polled less often.
* the engine's own events (containers of this node, removals anywhere): they start the other polls early. The swarm
  reports a container's exit up to 0.1 s after its node's engine. So this worker asks its own engine, and workers and
  agents on other nodes forward exits (``exit_notice.py``). In a swarm of one node these events report every exit, and
  ended tasks are polled rarely.

``PollSchedule`` decides which is due; ``believe`` decides what is accepted. Lists are filtered by the label of the
worker that created the service, so that a worker reads its own services, and those of workers whose jobs it has
adopted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from jaas_submit.errors import EngineRefused, TemporaryError
from jaas_worker.decisions.end_belief import Belief, Evidence, believe
from jaas_worker.decisions.task_outcome import attempt_task
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine, EngineEvent, TaskView
from jaas_worker.telemetry.log_actions import Action, about, action
from jaas_worker.tracking.engine_events import EngineEvents
from jaas_worker.tracking.fresh_services import MAX_CLOSE_WHILE_SLOW, FreshServices
from jaas_worker.tracking.poll_schedule import SLOW_LIST_S, Look, PollSchedule
from jaas_worker.tracking.tracked_service import (
    Ended,
    ExitReported,
    Gone,
    NodeLost,
    Running,
    Seen,
    ServiceRef,
    TrackedService,
    Waiting,
)

__all__ = ["Listener", "Tracker"]

logger = logging.getLogger(__name__)

_CLOSE_PAUSE_S = 0.02
"""Least seconds between two frequent polls. Each costs the engine about a millisecond."""

PULL_S: Final = 10.0
"""Seconds after which the image is held to be pulled: a busy node makes a container in a few."""

_STARTING = frozenset({"new", "assigned", "accepted", "preparing", "ready", "starting"})
"""Task states in which a node is about to start the container. Source: moby/swarmkit, api/types.proto, TaskState."""


class Listener(Protocol):
    """Receives observations. The calls come from the tracker's threads and must be short."""

    def observed(self, service: ServiceRef, seen: Seen) -> None:
        """Handle what was seen of a service. After an error the call is repeated in a later round."""

    def overdue(self) -> None:
        """About once a second: check time limits."""


class _Exit(NamedTuple):
    event: EngineEvent
    here: bool


class Tracker:
    """Follows the services given to it.

    Args:
        engine: the swarm.
        label: selects this installation's services; used for services without a worker's label.
        settings: intervals.
        schedule: of the polls; None makes one from the settings.
    """

    def __init__(self, engine: Engine, label: str, settings: Settings, schedule: PollSchedule | None = None) -> None:
        self._engine = engine
        self._label = label
        self._timeout = settings.engine_timeout
        self._poll_interval = settings.poll_interval
        self._schedule = schedule or PollSchedule(
            settings.poll_interval, settings.state_interval, settings.idle_interval
        )
        self._listener: Listener
        self._lock = threading.Lock()
        self._services: dict[str, TrackedService] = {}
        self._labels: Counter[str] = Counter()  # filters of the lists, each with its number of services
        self._exits: deque[_Exit] = deque()  # exits to examine
        self._fresh = FreshServices()
        self._nodes: frozenset[str] = frozenset()  # of the swarm, as far as is known
        self._events = EngineEvents(engine, self._hear)
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="jaas-tracker", daemon=True)

    def start(self, listener: Listener) -> None:
        """Start the threads.

        Args:
            listener: receives the observations.
        """
        self._listener = listener
        self._thread.start()
        self._events.start()

    def close(self) -> None:
        """Stop watching; returns when no more calls to the listener will come."""
        self._closed = True
        self._events.close()
        self._wake.set()
        self._thread.join(self._timeout)

    def watch(self, ref: ServiceRef) -> None:
        """Begin to follow a service."""
        with self._lock:
            if ref.id not in self._services:
                self._labels[ref.label or self._label] += 1
            self._services[ref.id] = TrackedService(ref)
            first = len(self._services) == 1
        self._fresh.add(ref.id)
        if first:  # otherwise a round is due soon, and nothing can have changed before it
            self._wake.set()

    def stopping(self, ref: ServiceRef) -> None:
        """Register that jaas stops a service's container."""
        with self._lock:
            if tracked := self._services.get(ref.id):
                tracked.stopping = True

    def forget(self, ref: ServiceRef) -> None:
        """Stop following a service."""
        with self._lock:
            tracked = self._services.get(ref.id)
            if tracked is not None and tracked.ref is ref:
                del self._services[ref.id]
                label = ref.label or self._label
                self._labels[label] -= 1
                if not self._labels[label]:
                    del self._labels[label]
                self._fresh.drop(ref.id)

    def nodes_are(self, nodes: Iterable[str]) -> None:
        """Update the swarm's nodes.

        Args:
            nodes: their ids, whatever their state: containers run on while their node takes no new ones.
        """
        self._nodes = frozenset(nodes)

    def look_soon(self) -> None:
        """Register that an exit is near that only the swarm will report."""
        self._schedule.unsettled(time.monotonic())

    def exited_elsewhere(self, event: EngineEvent) -> None:
        """Handle a forwarded exit.

        Args:
            event: of its engine; a service that is not followed is ignored.
        """
        if event.service_id in self._services and not self._fresh.busy():
            self._exits.append(_Exit(event, here=False))
            self._wake.set()

    def by_events(self) -> bool:
        """Return whether the followed events contain every container's exit."""
        return bool(self._events.followed_node) and self._nodes == {self._events.followed_node}

    def __len__(self) -> int:
        return len(self._services)

    # -- the polling thread -----------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._closed:
            self._wake.wait(self._schedule.pause(time.monotonic()))
            self._wake.clear()
            began = time.monotonic()
            try:
                self._round(began)
            except (TemporaryError, EngineRefused) as error:
                # The jobs' states are unknown, so no conclusion is drawn.
                logger.warning("cannot follow the jobs in flight: %s", error, extra=action(Action.ENGINE_UNAVAILABLE))
                self._schedule.round_failed(began)
            except Exception:  # the thread that follows every job must not end
                logger.exception("unexpected error in the tracker loop", extra=action(Action.STEP_FAILED))
                self._schedule.round_failed(began)
            if self._schedule.overdue_due(began):
                try:
                    self._listener.overdue()
                except Exception:  # as above
                    logger.exception("checking time limits failed", extra=action(Action.STEP_FAILED))

    def _round(self, began: float) -> None:
        """Handle news, and make the polls that are due."""
        followed = bool(self._services)
        if followed:
            self._see_exits()
            for look in self._schedule.due(began, by_events=self.by_events()):
                since, pause = time.monotonic(), 0.0
                self._schedule.begins(look)
                if look is Look.CLOSE:
                    pause = self._look_closely(began)
                elif look is Look.ALL:
                    self._see_all()
                else:
                    self._see_ended()
                self._schedule.done(look, since, time.monotonic(), pause)
        self._schedule.round_over(began, time.monotonic(), followed=followed, by_events=self.by_events())

    def _see_exits(self) -> None:
        """Examine services whose container has exited, which the swarm may not report yet."""
        exits = [self._exits.popleft() for _ in range(min(len(self._exits), MAX_CLOSE_WHILE_SLOW))]
        exited = {one.event.service_id: one for one in exits}
        followed = [service_id for service_id in exited if service_id in self._services]
        for service_id, tasks in _by_service(self._engine.tasks_of(*followed) if followed else ()).items():
            tracked, task = self._services.get(service_id), attempt_task(tasks)
            if tracked and task:
                event, here = exited[service_id]
                # If several workers share an engine, this one may not be the sender.
                self._judge_exit(tracked, task, event, here or task.node_id == self._events.node_id)
        if self._exits:
            self._wake.set()

    def _judge_exit(self, tracked: TrackedService, task: TaskView, event: EngineEvent, here: bool) -> None:
        evidence = Evidence(
            task,
            stopping=tracked.stopping,
            health_checked=tracked.ref.health_checked,
            exit=event,
            here=here,
            began=tracked.began,
        )
        belief = believe(evidence).belief
        if belief in {Belief.ENDED, Belief.ASK_ENGINE, Belief.READ_OUTPUT} and not task.ended:
            with about(tracked.ref):
                self._listener.observed(tracked.ref, ExitReported(evidence))
            return
        if belief is Belief.SWARM_JUDGES:
            self.look_soon()
        self._tell(tracked, task)

    def _look_closely(self, now: float) -> float:
        """Poll recently changed services, if they are few or lists are slow; return the seconds until the next poll.

        The pause grows to a hundredth of the time since the last change: the end of a long job may be noticed a little
        later.
        """
        fresh, youngest = self._fresh.choose(now, self._schedule.list_took > SLOW_LIST_S, self._services)
        if not fresh:
            return self._poll_interval
        for service_id, tasks in _by_service(self._engine.tasks_of(*fresh)).items():
            tracked, task = self._services.get(service_id), attempt_task(tasks)
            if tracked and task:
                self._tell(tracked, task)
        return max(_CLOSE_PAUSE_S * len(fresh), youngest / 100, 5 * (time.monotonic() - now))

    def _see_ended(self) -> None:
        with self._lock:
            labels = list(self._labels)
        for label in labels:
            for service_id, tasks in _by_service(self._engine.ended_tasks(label)).items():
                tracked, task = self._services.get(service_id), attempt_task(tasks)
                if tracked and task and task.ended:
                    self._tell(tracked, task)

    def _see_all(self) -> None:
        with self._lock:
            services = dict(self._services)
        now = time.monotonic()
        missing = set(services)
        for label in {tracked.ref.label or self._label for tracked in services.values()}:
            for service_id, tasks in _by_service(self._engine.all_tasks(label)).items():
                tracked, task = services.get(service_id), attempt_task(tasks)
                if tracked and task:
                    missing.discard(service_id)
                    tracked.missing_since = None
                    self._tell(tracked, task)
        for service_id in missing:
            self._miss(services[service_id], now)

    def _miss(self, tracked: TrackedService, now: float) -> None:
        """A service is not in the list."""
        if tracked.missing_since is None:
            tracked.missing_since = now
            return
        evidence = Evidence(missing_for=now - tracked.missing_since, task_seen=tracked.task_seen)
        belief = believe(evidence).belief
        if belief is Belief.ALIVE:
            return
        if belief is Belief.ASK_SWARM:
            found = self._engine.find(tracked.ref.name)
            belief = believe(evidence._replace(service_exists=found is not None)).belief
        if belief is Belief.GONE:
            with about(tracked.ref):
                self._listener.observed(tracked.ref, Gone())
        tracked.missing_since = now

    def _tell(self, tracked: TrackedService, task: TaskView) -> None:
        """Report what the swarm shows of a service to the listener, if it is new."""
        tracked.task_seen = True
        evidence = Evidence(task, stopping=tracked.stopping, node_lost=tracked.node_lost)
        belief = believe(evidence).belief
        if belief is Belief.ASK_NODE:
            down = task.node_id in self._engine.down_nodes()
            belief = believe(evidence._replace(node_down=down)).belief
        if belief is Belief.SWARM_JUDGES or (belief is Belief.NODE_LOST and tracked.node_lost):
            return
        with about(tracked.ref):
            if belief is Belief.ENDED:
                self._listener.observed(tracked.ref, Ended(task))
            elif belief is Belief.NODE_LOST:
                self._listener.observed(tracked.ref, NodeLost(task))
                tracked.node_lost = True
            elif task.state == "running":
                self._tell_running(tracked, task)
            else:
                # A task that cannot be placed has a reason; one that is about to be placed has none.
                starting = task.state in _STARTING or (task.state == "pending" and not task.error)
                if not starting:  # it will not change soon
                    self._fresh.drop(tracked.ref.id)
                self._listener.observed(tracked.ref, Waiting(task, starting and not self._pulls(tracked, task)))

    def _pulls(self, tracked: TrackedService, task: TaskView) -> bool:
        """Return whether a node takes so long to get a container ready that it must be pulling the image.

        That takes no starting slot from others, and tells nothing of how long starts take.
        """
        if task.state != "preparing":
            tracked.prepares_since = None
            return False
        now = time.monotonic()
        tracked.prepares_since = now if tracked.prepares_since is None else tracked.prepares_since
        return now - tracked.prepares_since > PULL_S

    def _tell_running(self, tracked: TrackedService, task: TaskView) -> None:
        if tracked.has_run and not tracked.node_lost:
            return
        if not tracked.has_run:
            self._fresh.add(tracked.ref.id)
        self._listener.observed(tracked.ref, Running(task))
        tracked.has_run, tracked.node_lost = True, False

    # -- the events' thread --------------------------------------------------------------------------------------------

    def _hear(self, event: EngineEvent) -> None:
        tracked = self._services.get(event.service_id)
        if tracked is None:
            return
        if event.kind == "start":  # the next round, which is due soon, sees it
            tracked.began = event.at
            self._fresh.add(event.service_id)
            return
        if event.kind == "die":
            self._fresh.add(event.service_id)
            if self._fresh.busy() and not self.by_events():
                return
            self._exits.append(_Exit(event, here=True))
        self._wake.set()


def _by_service(tasks: Iterable[TaskView]) -> dict[str, list[TaskView]]:
    found: dict[str, list[TaskView]] = defaultdict(list)
    for task in tasks:
        found[task.service_id].append(task)
    return found
