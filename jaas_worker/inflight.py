"""The jobs in this worker's hands, the line in which they wait, and the threads that take their steps.

A step is a short, idempotent piece of a job's life. One that fails for now is repeated after a pause; a job is in the
hands of one thread at a time, and its entry's phase says whose.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from jaas_submit.errors import EngineUnavailable, LedgerUnavailable, TemporaryError, UnreadableRecord
from jaas_worker.context import Context
from jaas_worker.entry import Delivery, Entry, Phase
from jaas_worker.later import Later
from jaas_worker.logsetup import Action, about, action
from jaas_worker.tracker import Tracker
from jaas_worker.window import LaunchWindow

__all__ = ["InFlight", "Step"]

logger = logging.getLogger(__name__)

_TOGETHER = 10.0
"""Seconds for which the finishing threads wait for each other, should one of them not start."""

_MOST_SURPRISES = 5
"""How often a step may fail with an error that nobody expected before the job is failed with it."""

Step = Callable[[Entry], None]


class InFlight:
    """All entries of this worker, and the threads that carry their steps out.

    Args:
        context: the worker.
        tracker: follows the services of those that were launched.
    """

    def __init__(self, context: Context, tracker: Tracker) -> None:
        self._context = context
        self._tracker = tracker
        self.look_soon = tracker.look_soon
        self.lock = threading.RLock()
        self._room = threading.Condition(self.lock)
        self.entries: dict[str, Entry] = {}
        self.closing = False
        self.held = False
        """No new job is begun with."""
        self._line: deque[tuple[Step, Entry]] = deque()
        self._starting: set[str] = set()
        self._window = LaunchWindow(context.settings.max_starting)
        self._ended: set[str] = set()
        self._in_flight = 0
        self._later = Later()
        settings = context.settings
        self._finishers = ThreadPoolExecutor(settings.finish_threads, thread_name_prefix="jaas-finish")
        self._launchers = [
            threading.Thread(target=self._launch_loop, name=f"jaas-launch-{n}", daemon=True)
            for n in range(settings.launch_threads)
        ]

    def start(self, first_step: Step, on_defect: Callable[[Entry, Exception], None], on_superseded: Step) -> None:
        """Start the threads.

        Args:
            first_step: what is done with every new entry when its turn comes.
            on_defect: ends a job, one of whose steps fails again and again with an error that nobody expected.
            on_superseded: what is done with a job that this worker holds and that its copy has ended.
        """
        self._first_step = first_step
        self._on_defect = on_defect
        self._on_superseded = on_superseded
        self._later.start()
        for thread in self._launchers:
            thread.start()
        # All at once, not as work comes: whoever counts a worker's threads over days wants to see none added.
        together = threading.Barrier(self._context.settings.finish_threads)
        for _ in range(self._context.settings.finish_threads):
            self._finishers.submit(together.wait, _TOGETHER)

    def close(self, patience: float) -> None:
        """Begin no further step.

        Args:
            patience: seconds to wait for those that are under way.
        """
        deadline = time.monotonic() + patience
        for thread in self._launchers:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self._later.close()
        self._finishers.shutdown(wait=False, cancel_futures=True)
        for thread in tuple(self._finishers._threads):
            thread.join(max(deadline - time.monotonic(), 0.0))

    def begin_to_close(self) -> None:
        """Take no further job up; steps that are under way go on."""
        with self._room:
            self.closing = True
            self._room.notify_all()

    # -- threads ----------------------------------------------------------------------------------------------------

    def submit(self, call: Callable[..., Any], *args: Any) -> None:
        """Have a call made on a finishing thread; not made any more when the worker shuts down."""
        if not self.closing:
            self._finishers.submit(call, *args)

    def finish(self, step: Step, entry: Entry) -> None:
        """Have a step of an entry taken on a finishing thread."""
        self.submit(self.run, step, entry)

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        """Have a short call made after a pause.

        Args:
            delay: seconds.
            call: must not raise.
        """
        self._later.call(delay, call)

    # -- entries ----------------------------------------------------------------------------------------------------

    def take(self, delivery: Delivery) -> Delivery | None:
        """Take a message. Returns at once.

        Args:
            delivery: the message.

        Returns:
            The earlier message of the same job, when this one takes its place.
        """
        with self._room:
            known = self.entries.get(delivery.job_id)
            if known:
                earlier, known.delivery = known.delivery, delivery
                if known.accepted:
                    delivery.accepted(first=False)
                return earlier
            if self.held and delivery.job_id not in self._ended:
                delivery.returned()
                return None
            entry = Entry(delivery.job_id, delivery)
            self.entries[entry.job_id] = entry
            self._line.append((self._first_step, entry))
            if entry.job_id in self._ended:
                self._ended.discard(entry.job_id)
                self._pass_the_line(entry)
            self._room.notify()
        return None

    def have_ended(self, job_ids: Iterable[str]) -> None:
        """Learn of jobs that need no place in the swarm: their end is written down, Celery only has to hear of it.

        Args:
            job_ids: those jobs; their messages may be here already, or come in a moment.
        """
        with self._room:
            for job_id in job_ids:
                entry = self.entries.get(job_id)
                if entry is None:
                    self._ended.add(job_id)
                elif entry.phase is Phase.WAITING:
                    self._pass_the_line(entry)
            self._room.notify_all()

    def _pass_the_line(self, entry: Entry) -> None:
        self._line.remove((self._first_step, entry))
        entry.phase = Phase.LAUNCHING
        self._in_flight += 1
        self._line.appendleft((self._first_step, entry))

    def hold(self, yes: bool) -> None:
        """Begin with no new job and give back those that wait, for other workers; or go on.

        Args:
            yes: whether new jobs are held off.
        """
        with self._room:
            self.held = yes
            waiting = [item for item in self._line if item[1].phase is Phase.WAITING] if yes else []
            for item in waiting:
                self._line.remove(item)
                self.forget(item[1])
            self._room.notify_all()
        for _, entry in waiting:
            entry.delivery.returned()

    def knows(self, job_id: str) -> bool:
        """Return whether this worker has the job in its hands, be it only waiting."""
        return job_id in self.entries

    def follows(self, job_id: str, service: str) -> bool:
        """Return whether a service, by its name, is the one that this worker follows for a job."""
        entry = self.entries.get(job_id)
        return entry is not None and entry.phase is Phase.TRACKED and entry.service == service

    def stats(self) -> dict[str, int]:
        """Return how many jobs wait in this worker, are starting, may be starting, and are in flight."""
        with self.lock:
            return {
                "waiting": len(self.entries) - self._in_flight,
                "starting": len(self._starting),
                "window": self._window.size,
                "in_flight": self._in_flight,
            }

    def _has_room(self) -> bool:
        _, entry = self._line[0]
        # Only a new job takes a place; what is in flight already may always go on.
        if entry.phase is not Phase.WAITING:
            return True
        return self._in_flight < self._context.settings.max_in_flight and len(self._starting) < self._window.size

    def _launch_loop(self) -> None:
        while True:
            with self._room:
                while not self.closing and not (self._line and self._has_room()):
                    self._room.wait()
                if self.closing:
                    return
                step, entry = self._line.popleft()
                if entry.phase is Phase.WAITING:
                    entry.phase = Phase.LAUNCHING
                    self._in_flight += 1
                    self._starting.add(entry.job_id)
            self.run(step, entry)

    def run(self, step: Step, entry: Entry) -> None:
        """Run one step; repeat it later when it failed for now."""
        with about(entry):
            self._run_now(step, entry)

    def _run_now(self, step: Step, entry: Entry) -> None:
        try:
            step(entry)
            entry.tries = 0
        except TemporaryError as error:
            entry.tries += 1
            self._context.metrics.step_repeated(error)
            if self.held and entry.phase is Phase.LAUNCHING and isinstance(error, EngineUnavailable):
                self._pass_on(entry)
                return
            delay = min(0.2 * 2 ** min(entry.tries, 10), 10.0)
            logger.warning(
                "job %s: %s; trying again in %.1f s", entry.job_id, error, delay, extra=action(Action.STEP_REPEATED)
            )
            self.call_later(delay, partial(self._again, step, entry))
        except UnreadableRecord as error:
            self.abandon(entry, error)
        except Exception as error:  # a defect in one job's handling must not take the worker down
            entry.tries += 1
            self._context.metrics.step_repeated(error)
            logger.exception("job %s: unexpected error", entry.job_id, extra=action(Action.STEP_FAILED))
            if entry.tries < _MOST_SURPRISES:
                self.call_later(1.0, partial(self._again, step, entry))
            elif entry.phase in {Phase.LAUNCHING, Phase.TRACKED}:
                self._on_defect(entry, error)
            else:
                self._give_up(entry)

    def _pass_on(self, entry: Entry) -> None:
        """Leave a job that cannot be launched from here to other workers, as at a shutdown."""
        self.forget(entry)
        try:
            self._context.ledger.ownership.release(entry.job_id, self._context.holder)
        except LedgerUnavailable as error:
            # The ledger says that it is ours, and we know nothing of it: the reconciler lets go of such jobs.
            logger.warning("job %s: %s", entry.job_id, error, extra=action(Action.STEP_REPEATED))
        entry.delivery.dropped()

    def _give_up(self, entry: Entry) -> None:
        """Let somebody else (or this worker, in a while) bring the result to Celery."""
        self.forget(entry)
        with contextlib.suppress(LedgerUnavailable):
            self._context.ledger.ownership.release(entry.job_id, self._context.holder)
        entry.delivery.dropped()

    def _again(self, step: Step, entry: Entry) -> None:
        if self.closing or entry.phase is Phase.GONE:
            return
        if entry.phase is Phase.FINISHING:
            self._finishers.submit(self.run, step, entry)
        else:
            with self._room:
                self._line.appendleft((step, entry))
                self._room.notify()

    def finish_by(self, entry: Entry, step: Step) -> bool:
        """Begin to finish an entry, once; True when this call was the one."""
        with self.lock:
            if entry.phase not in {Phase.TRACKED, Phase.LAUNCHING} or self.closing:
                return False
            entry.phase = Phase.FINISHING
            entry.tries = 0
        self._tracker.forget(entry)
        self._finishers.submit(self.run, step, entry)
        return True

    def forget(self, entry: Entry) -> None:
        """The entry is no business of this worker any more."""
        self._tracker.forget(entry)
        with self._room:
            if entry.phase is Phase.GONE:
                return
            if entry.phase is not Phase.WAITING:
                self._in_flight -= 1
            entry.phase = Phase.GONE
            self._starting.discard(entry.job_id)
            if self.entries.get(entry.job_id) is entry:
                del self.entries[entry.job_id]
            self._room.notify()

    def started(self, entry: Entry, *, ran: bool) -> None:
        """The entry does not count as starting any more.

        Args:
            entry: the job.
            ran: its container has run; else it could not be started, or no node takes it.
        """
        with self._room:
            if entry.job_id not in self._starting:
                return
            if ran and entry.launched_at is not None:  # one that was taken over began long ago
                self._window.started(time.monotonic() - entry.launched, len(self._starting))
            self._starting.discard(entry.job_id)
            self._room.notify_all()

    def share(self, nodes: int, workers: int) -> None:
        """Learn how many nodes and workers there are, which decides how many services this worker may be starting."""
        with self._room:
            self._window.share(nodes, workers)
            self._room.notify_all()

    def drop(self, entry: Entry) -> None:
        """Another worker has the job, or it is over: nothing to do for this message."""
        self.forget(entry)
        entry.delivery.dropped()

    def abandon(self, entry: Entry, error: UnreadableRecord) -> None:
        """Leave a job alone, of which there is no record to write to any more; its container runs on.

        Args:
            entry: the job.
            error: what is wrong with the record.
        """
        logger.error("%s; the job is left alone", error, extra=action(Action.RECORD_UNREADABLE))
        self.drop(entry)

    def told(self, entry: Entry, delivery: Delivery) -> None:
        """Celery has been told how a job ended: forget it.

        Args:
            entry: the job.
            delivery: the message through which Celery was told. A copy may have taken its place meanwhile.
        """
        self.forget(entry)
        delivery.done()
        if entry.delivery is not delivery:
            entry.delivery.dropped()

    def taken_away(self, entry: Entry) -> None:
        """The ledger did not take what this worker wrote.

        It names another holder: this worker was suspended, or cut off, for longer than its lease. Or the job's copy has
        ended it (speculation).
        """
        if self.superseded(entry):
            return
        logger.warning("job %s: another worker has taken it over", entry.job_id, extra=action(Action.JOB_TAKEN_AWAY))
        self.drop(entry)

    def superseded(self, entry: Entry) -> bool:
        """Go on with a job that this worker holds and that its copy has ended; False when that is not so."""
        if not entry.labels:  # only jobs of batches have copies
            return False
        held = [one for one in self._context.ledger.queries.find([entry.job_id]) if one.holder == self._context.holder]
        if not held or not held[0].terminal:
            return False
        with self.lock:
            ours = entry.phase is Phase.FINISHING
        if ours:
            self._on_superseded(entry)
        else:
            self.finish_by(entry, self._on_superseded)
        return True
