"""Follows all services of this worker with a few calls for all of them, never one per job.

Four sources, from cheap to thorough:

* ``tasks_of``: the tasks of services to which something has happened a moment ago (launched, running, an event), in one
  call. Asked very often, for their next change is near.
* ``ended_tasks``: one filtered call that returns exactly the tasks that ended. Asked often.
* ``all_tasks``: every task with its state: pending and why, running and where, gone. Asked less often.
* the engine's own events (containers of this node, removals anywhere): they wake the others early. Of a container's end
  the swarm learns up to 0.1 s after its node's engine: here that engine itself is asked, and who listens on another
  node passes its engine's event on (``neighbours.py``, ``listener.py``). In a swarm of one node these events tell of
  every container's end, and ended tasks are looked at rarely.

A list costs the engine a look at every task there is, and this worker the reading of every task of its own: the pauses
between lists grow with what the last one took. Lists are filtered by the label of the worker that asked for the
service, so that no worker reads the services of others, but of those whose jobs it has taken over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from jaas_submit.errors import EngineRefused, EngineUnavailable, TemporaryError
from jaas_worker.engine import Engine, EngineEvent, TaskView
from jaas_worker.entry import Entry
from jaas_worker.logsetup import Action, about, action
from jaas_worker.observe import attempt_task
from jaas_worker.settings import Settings

__all__ = ["Listener", "Tracker"]

logger = logging.getLogger(__name__)

_MISSING_FOR = 2.0
"""Seconds a service must be missing from the list before it is looked up by itself: the list may be a moment old."""

_FRESH_FOR = 10.0
"""Seconds for which a service is looked at closely after something has happened to it."""

_CLOSE = 0.02
"""Seconds between two close looks, at least. Each costs the engine about a millisecond."""

_FEW = 4
"""Services that a close look takes. Where more change at once the cluster is busy, and the other looks will do: a look
at single services costs the engine the more of them there are."""

_LIST_SHARE = 40
"""A list of all tasks comes after so many times as long as the last one took: ten thousand tasks take half a second, of
the engine's time and of this worker's."""

_ENDED_SHARE = 10
"""A look at ended tasks comes after so many times as long as the last one took: an engine that is busy with starting
containers is not asked so often."""

_ENDED_PAUSE = 10.0
"""Seconds after which it comes at the latest: an engine that was slow once may not be any more."""

_BY_EVENTS = 1.0
"""Seconds between looks at ended tasks where the engine's events tell of the ends, for those that have none: tasks that
the swarm gave up before they had a container."""

_AGAIN = 1.0
"""Seconds until the next round after one that failed."""

_UNSETTLED = 2.0
"""Seconds for which ended tasks are looked at all the same, after something that only the swarm can tell the end of."""

_DEAR = 0.05
"""Seconds from which on a list of all tasks counts as dear, and comes ever more rarely."""

_SOME = 25
"""Services that a close look takes while lists are dear: those that may be starting, or else no other could start. Also
those whose containers' deaths are looked into at once."""

_STARTING = frozenset({"new", "assigned", "accepted", "preparing", "ready", "starting"})
"""Task states in which a node is about to start the container. Source: moby/swarmkit, api/types.proto, TaskState."""


class Listener(Protocol):
    """Who wants to know. The calls come from the tracker's thread and must be short."""

    def task_ended(self, entry: Entry, task: TaskView) -> None:
        """The attempt's task has ended."""

    def container_died(self, entry: Entry, task: TaskView, event: EngineEvent, *, here: bool) -> None:
        """The attempt's container has ended, and the swarm does not say so yet.

        Args:
            entry: the job.
            task: as the swarm shows it.
            event: the end, as the container's engine tells it.
            here: it ran on this engine; else who listens on its node has passed the event on.
        """

    def died_here(self, event: EngineEvent) -> None:
        """A container that none of the entries knows has ended on this engine."""

    def task_running(self, entry: Entry, task: TaskView) -> None:
        """The attempt's container runs."""

    def task_waiting(self, entry: Entry, task: TaskView, *, starting: bool) -> None:
        """The attempt's task does not run yet; ``starting`` tells whether a node is at it."""

    def node_lost(self, entry: Entry, task: TaskView) -> None:
        """The swarm wants the task ended, and it has not ended: its node is down, or the container is being stopped."""

    def service_gone(self, entry: Entry) -> None:
        """The attempt's service does not exist any more."""

    def tick(self) -> None:
        """About once a second: look at what is overdue."""


class _Death(NamedTuple):
    event: EngineEvent
    here: bool


class Tracker:
    """Watches the services of the entries given to it.

    Args:
        engine: the swarm.
        label: selects this installation's services; used for those that no worker's label is known of.
        settings: intervals.
    """

    def __init__(self, engine: Engine, label: str, settings: Settings) -> None:
        self._engine = engine
        self._label = label
        self._settings = settings
        self._listener: Listener
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._labels: Counter[str] = Counter()  # what the lists are filtered by, and for how many entries
        self._died: deque[_Death] = deque()  # what is to be looked at
        self._fresh: dict[str, float] = {}  # service -> when something happened to it, by the monotonic clock
        self._listed_in = 0.0  # seconds that the last list of all tasks took
        self._nodes: frozenset[str] = frozenset()  # of the swarm, as far as is known
        self._node_id = ""  # this engine's
        self._own_node = ""  # the same while its events are followed, else empty
        self._unsettled_until = 0.0
        self._wake = threading.Event()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._loop, name="jaas-tracker", daemon=True),
            threading.Thread(target=self._follow_events, name="jaas-events", daemon=True),
        ]

    def start(self, listener: Listener) -> None:
        """Start the threads.

        Args:
            listener: is told what was seen.
        """
        self._listener = listener
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop watching; returns when no more calls to the listener will come."""
        self._closed = True
        self._wake.set()
        self._threads[0].join(self._settings.engine_timeout)

    def watch(self, entry: Entry) -> None:
        """Begin to watch an entry's service."""
        with self._lock:
            if entry.service_id not in self._entries:
                self._labels[entry.label or self._label] += 1
            self._entries[entry.service_id] = entry
            self._fresh[entry.service_id] = time.monotonic()
            first = len(self._entries) == 1
        if first:  # else a round is due in a moment, and nothing can have happened before it
            self._wake.set()

    def forget(self, entry: Entry) -> None:
        """Watch an entry's service no more."""
        with self._lock:
            if self._entries.get(entry.service_id) is entry:
                del self._entries[entry.service_id]
                label = entry.label or self._label
                self._labels[label] -= 1
                if not self._labels[label]:
                    del self._labels[label]
                self._fresh.pop(entry.service_id, None)

    def nodes_are(self, nodes: Iterable[str]) -> None:
        """Learn which nodes the swarm has.

        Args:
            nodes: their ids, whatever their state: containers run on while their node takes no new ones.
        """
        self._nodes = frozenset(nodes)

    def look_soon(self) -> None:
        """Learn that an end is near of which only the swarm will tell."""
        self._unsettled_until = time.monotonic() + _UNSETTLED

    def died_elsewhere(self, event: EngineEvent) -> None:
        """Learn that a container has ended on another node.

        Args:
            event: of its engine; a service that is not watched is ignored.
        """
        if event.service_id in self._entries and len(self._fresh) <= _FEW:
            self._died.append(_Death(event, here=False))
            self._wake.set()

    def _alone(self) -> bool:
        """Return whether every container's end is among the events that are followed."""
        return bool(self._own_node) and self._nodes == {self._own_node}

    def __len__(self) -> int:
        return len(self._entries)

    def _filters(self) -> list[str]:
        with self._lock:
            return list(self._labels)

    # -- the polling thread -----------------------------------------------------------------------------------------

    def _loop(self) -> None:
        next_look = next_close = looked = took = next_states = next_tick = 0.0  # looked at ended tasks, which took
        list_failed = False
        while not self._closed:
            self._wake.wait(max(next_look - time.monotonic(), 0.0))
            self._wake.clear()
            started = time.monotonic()
            next_look = started + self._settings.idle_interval
            try:
                if self._entries:
                    self._see_died()
                    if started >= next_close:
                        next_close = time.monotonic() + self._look_closely(started)
                    if started >= next_states and not list_failed:
                        list_failed = True
                        self._listed_in = _seconds(self._see_all)
                        list_failed = False
                        looked = time.monotonic()  # the ended ones are in that list
                        took = min(took, self._listed_in)
                        next_states = looked + max(self._settings.state_interval, _LIST_SHARE * self._listed_in)
                    elif list_failed or started >= looked + self._ended_pause(took):
                        list_failed = False  # the next round tries again
                        took = _seconds(self._see_ended)
                        looked = time.monotonic()
                    next_look = min(next_close, looked + self._ended_pause(took), next_states)
            except (TemporaryError, EngineRefused) as error:
                # What happened to the jobs is unknown, and nothing is concluded from it.
                logger.warning("cannot follow the jobs in flight for now: %s", error, extra=action(Action.ENGINE_AWAY))
                next_look = started + _AGAIN
            except Exception:  # the thread that follows every job must not end
                logger.exception("the tracker stumbled", extra=action(Action.STEP_FAILED))
                next_look = started + _AGAIN
            if started >= next_tick:
                next_tick = started + 1.0
                try:
                    self._listener.tick()
                except Exception:  # as above
                    logger.exception("looking at what is overdue failed", extra=action(Action.STEP_FAILED))

    def _ended_pause(self, took: float) -> float:
        """Return the seconds until the next look at ended tasks, the last of which took so many."""
        by_events = self._alone() and time.monotonic() >= self._unsettled_until
        least = max(self._settings.poll_interval, _BY_EVENTS if by_events else 0.0)
        return max(least, min(_ENDED_SHARE * took, _ENDED_PAUSE))

    def _see_died(self) -> None:
        """Look at services whose container has ended, of which the swarm may not know yet."""
        deaths = [self._died.popleft() for _ in range(min(len(self._died), _SOME))]
        died = {death.event.service_id: death for death in deaths}
        tracked = [service_id for service_id in died if service_id in self._entries]
        for service_id, tasks in _by_service(self._engine.tasks_of(*tracked) if tracked else ()).items():
            entry, task = self._entries.get(service_id), attempt_task(tasks)
            if not entry or not task:
                continue
            event, here = died[service_id]
            here = here or task.node_id == self._node_id  # where several workers share an engine
            if task.ended:
                self._tell(entry, task)
            elif entry.stop is None and task.container_id == event.container_id and (here or task.state == "running"):
                # Of a task that is not shown as running yet the swarm hands out no output: none, and no error. Source:
                # moby/swarmkit, manager/logbroker/subscription.go, match.
                with about(entry):
                    self._listener.container_died(entry, task, event, here=here)
            else:
                self.look_soon()
                self._tell(entry, task)
        if self._died:
            self._wake.set()

    def _look_closely(self, now: float) -> float:
        """Look at services that are fresh, if they are few or lists are dear; return the seconds until the next look.

        The pause grows to a hundredth of the time since anything happened: who has waited long for a job may learn of
        its end a little later.
        """
        with self._lock:
            self._fresh = {service: since for service, since in self._fresh.items() if now - since < _FRESH_FOR}
            fresh, youngest = list(self._fresh), now - max(self._fresh.values(), default=0.0)
            if len(fresh) > _FEW and self._listed_in > _DEAR:
                fresh = [one for one in fresh if self._entries[one].running_since is None][:_SOME]
                self._fresh.update({one: self._fresh.pop(one) for one in fresh})  # the others come first the next time
            elif len(fresh) > _FEW:
                fresh = []
        if not fresh:
            return self._settings.poll_interval
        for service_id, tasks in _by_service(self._engine.tasks_of(*fresh)).items():
            entry, task = self._entries.get(service_id), attempt_task(tasks)
            if entry and task:
                self._tell(entry, task)
        return max(_CLOSE * len(fresh), youngest / 100, 5 * (time.monotonic() - now))

    def _see_ended(self) -> None:
        for label in self._filters():
            for service_id, tasks in _by_service(self._engine.ended_tasks(label)).items():
                entry, task = self._entries.get(service_id), attempt_task(tasks)
                if entry and task and task.ended:
                    self._tell(entry, task)

    def _see_all(self) -> None:
        with self._lock:
            entries = dict(self._entries)
        now = time.monotonic()
        missing = set(entries)
        for label in {entry.label or self._label for entry in entries.values()}:
            for service_id, tasks in _by_service(self._engine.all_tasks(label)).items():
                entry, task = entries.get(service_id), attempt_task(tasks)
                if entry and task:
                    missing.discard(service_id)
                    entry.missing_since = None
                    self._tell(entry, task)
        for service_id in missing:
            self._miss(entries[service_id], now)

    def _miss(self, entry: Entry, now: float) -> None:
        """A service is not in the list."""
        if entry.missing_since is None:
            entry.missing_since = now
        elif now - entry.missing_since > _MISSING_FOR:
            # A service that had its task and has it no more was scaled to nothing; a new one gets its task soon.
            if entry.task_seen or self._engine.find(entry.service) is None:
                self._listener.service_gone(entry)
            entry.missing_since = now

    def _tell(self, entry: Entry, task: TaskView) -> None:
        with about(entry):
            self._tell_listener(entry, task)

    def _tell_listener(self, entry: Entry, task: TaskView) -> None:
        entry.task_seen = True
        if task.ended:
            self._listener.task_ended(entry, task)
        elif task.desired == "shutdown" and (entry.stop is None or entry.lost is not None):
            # One that is being stopped is lost all the same if it was before: "running" is what was seen last.
            self._listener.node_lost(entry, task)
        elif task.state == "running":
            if entry.running_since is None:
                self._is_fresh(entry.service_id)
            self._listener.task_running(entry, task)
        else:
            # A task that cannot be placed says why; one that is about to be placed says nothing.
            starting = task.state in _STARTING or (task.state == "pending" and not task.error)
            if not starting:  # nothing will happen to it soon
                with self._lock:
                    self._fresh.pop(entry.service_id, None)
            self._listener.task_waiting(entry, task, starting=starting)

    def _is_fresh(self, service_id: str) -> None:
        with self._lock:
            if service_id in self._entries:
                self._fresh[service_id] = time.monotonic()

    # -- the events thread ------------------------------------------------------------------------------------------

    def _follow_events(self) -> None:
        while not self._closed:
            try:
                self._node_id = self._engine.info().node_id
                for event in self._engine.events():
                    self._own_node = self._node_id
                    if self._closed:
                        return
                    entry = self._entries.get(event.service_id)
                    if entry is None:
                        if event.kind == "die" and len(self._fresh) <= _FEW:
                            self._listener.died_here(event)
                        continue
                    if event.kind == "start":  # seen in the next round, which is due in a moment
                        entry.began = event.at
                        self._is_fresh(event.service_id)
                        continue
                    if event.kind == "die":
                        self._is_fresh(event.service_id)
                        if len(self._fresh) > _FEW and not self._alone():
                            continue
                        self._died.append(_Death(event, here=True))
                    self._wake.set()
            except (EngineUnavailable, EngineRefused) as error:
                logger.debug("no events from the engine: %s", error)
            except Exception:  # polling goes on without events, but they must come back
                logger.exception("following the engine's events failed", extra=action(Action.STEP_FAILED))
            self._own_node = ""
            if not self._closed:
                time.sleep(1.0)


def _seconds(call: Callable[[], None]) -> float:
    """Make a call and return how long it took."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _by_service(tasks: Iterable[TaskView]) -> dict[str, list[TaskView]]:
    found: dict[str, list[TaskView]] = defaultdict(list)
    for task in tasks:
        found[task.service_id].append(task)
    return found
