"""The jobs of this worker, its launch queue, and how many of the jobs may be starting at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator

from jaas_worker.decisions.launch_window import LaunchWindow
from jaas_worker.lifecycle.next_step import Claim, Next
from jaas_worker.lifecycle.tracked_job import Delivery, Phase, TrackedJob

__all__ = ["JobTable", "QueuedStep"]

QueuedStep = tuple[TrackedJob, Next]
"""A job, and the step for a launching thread."""


class JobTable:
    """All jobs of this worker. Threads may share it.

    Args:
        max_in_flight: how many jobs this worker may hold.
        max_starting: upper limit of starting services; 0 for none.
    """

    def __init__(self, max_in_flight: int, max_starting: int = 0) -> None:
        self.lock = threading.RLock()
        """Guards the phase of every job, its message and its stop request."""
        self.closing = False
        """No further step starts."""
        self.held = False
        """No new job starts."""
        self._max_in_flight = max_in_flight
        self._changed = threading.Condition(self.lock)
        self._jobs: dict[str, TrackedJob] = {}
        self._queue: deque[QueuedStep] = deque()
        self._starting: set[str] = set()
        self._window = LaunchWindow(max_starting)
        self._ended: set[str] = set()
        self._in_flight = 0

    def __iter__(self) -> Iterator[TrackedJob]:
        """Yield all present jobs."""
        return iter(list(self._jobs.values()))

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._jobs

    def get(self, job_id: str) -> TrackedJob | None:
        """Return a job by its id; None when this worker does not have it."""
        return self._jobs.get(job_id)

    # -- messages ---------------------------------------------------------------------------------------------------

    def take(self, delivery: Delivery) -> Delivery | None:
        """Take a message. Returns at once.

        Args:
            delivery: the message.

        Returns:
            The earlier message of the same job, when this one takes its place.
        """
        with self._changed:
            known = self._jobs.get(delivery.job_id)
            if known:
                if (follow_up := delivery.follow_up()) != known.delivery.follow_up():
                    # No duplicate: a client has used the task id again. The first message stays.
                    if follow_up:
                        known.others = (*known.others, delivery)
                    else:
                        delivery.dropped()
                    return None
                earlier, known.delivery = known.delivery, delivery
                if known.accepted:
                    delivery.accepted(first=False)
                return earlier
            if self.held and delivery.job_id not in self._ended:
                delivery.returned()
                return None
            job = TrackedJob(delivery.job_id, delivery)
            self._jobs[job.job_id] = job
            self._queue.append((job, Claim()))
            if job.job_id in self._ended:
                self._ended.discard(job.job_id)
                self._skip_queue(job)
            self._changed.notify()
        return None

    def have_ended(self, job_ids: Iterable[str]) -> None:
        """Register jobs that need no room: their outcome is recorded, and only the report to Celery is missing.

        Args:
            job_ids: those jobs; their messages are here already, or arrive soon.
        """
        with self._changed:
            for job_id in job_ids:
                job = self._jobs.get(job_id)
                if job is None:
                    self._ended.add(job_id)
                elif job.phase is Phase.WAITING:
                    self._skip_queue(job)
            self._changed.notify_all()

    def _skip_queue(self, job: TrackedJob) -> None:
        self._queue.remove((job, Claim()))
        job.phase = Phase.LAUNCHING
        self._in_flight += 1
        self._queue.appendleft((job, Claim()))

    def hold(self, yes: bool) -> list[str]:
        """Stop or resume starting new jobs; when stopped, return the waiting ones for other workers.

        Args:
            yes: whether to stop.

        Returns:
            The ids of the jobs that were returned.
        """
        with self._changed:
            self.held = yes
            waiting = [item for item in self._queue if item[0].phase is Phase.WAITING] if yes else []
            for item in waiting:
                self._queue.remove(item)
                self.forget(item[0])
            self._changed.notify_all()
        for job, _ in waiting:
            job.delivery.returned()
        return [job.job_id for job, _ in waiting]

    # -- the launch queue -------------------------------------------------------------------------------------------

    def next(self) -> QueuedStep | None:
        """Wait for the next job for a launching thread, and return it; None when the worker shuts down."""
        with self._changed:
            while not self.closing and not (self._queue and self._has_room()):
                self._changed.wait()
            if self.closing:
                return None
            job, step = self._queue.popleft()
            if job.phase is Phase.WAITING:
                job.phase = Phase.LAUNCHING
                self._in_flight += 1
                self._starting.add(job.job_id)
            return job, step

    def _has_room(self) -> bool:
        # Only a new job needs room; a job in flight may always go on.
        if self._queue[0][0].phase is not Phase.WAITING:
            return True
        return self._in_flight < self._max_in_flight and len(self._starting) < self._window.size

    def put_first(self, job: TrackedJob, step: Next) -> None:
        """Let a launching thread continue a job in flight, before all new ones."""
        with self._changed:
            self._queue.appendleft((job, step))
            self._changed.notify()

    def repeats(self, job: TrackedJob) -> None:
        """Learn that a step of a job failed for now: until it succeeds, the job holds no starting slot from others."""
        with self._changed:
            self._starting.discard(job.job_id)
            self._changed.notify_all()

    def starts(self, job: TrackedJob) -> None:
        """Learn that a job's service exists: it counts as starting, whatever failed before."""
        with self._changed:
            self._starting.add(job.job_id)

    def started(self, job: TrackedJob, now: float, *, ran: bool) -> None:
        """Register that a job no longer counts as starting.

        Args:
            job: the job.
            now: the present moment, by the monotonic clock.
            ran: its container has run; otherwise it could not be started, or no node takes it.
        """
        with self._changed:
            if job.job_id not in self._starting:
                return
            if ran and job.launched_at is not None:  # the start of an adopted job is unknown
                self._window.started(now - job.followed_since, len(self._starting))
            self._starting.discard(job.job_id)
            self._changed.notify_all()

    def share(self, nodes: int, workers: int) -> None:
        """Update the numbers of nodes and workers, which decide how many services this worker may be starting."""
        with self._changed:
            self._window.share(nodes, workers)
            self._changed.notify_all()

    # -- the end ----------------------------------------------------------------------------------------------------

    def forget(self, job: TrackedJob) -> None:
        """Remove a job from this worker."""
        with self._changed:
            if job.phase is Phase.GONE:
                return
            if job.phase is not Phase.WAITING:
                self._in_flight -= 1
            had_ended = job.phase is Phase.FINISHING
            job.phase = Phase.GONE
            self._starting.discard(job.job_id)
            if self._jobs.get(job.job_id) is job:
                del self._jobs[job.job_id]
            self._changed.notify()
        for other in job.others:
            if had_ended:
                self.take(other)
            else:
                other.postponed()

    def close(self) -> None:
        """Start no further job; running steps go on."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()

    # -- questions --------------------------------------------------------------------------------------------------

    def follows(self, job_id: str, service: str) -> bool:
        """Return whether a service, by its name, is the one that this worker follows for a job."""
        job = self._jobs.get(job_id)
        return job is not None and job.phase is Phase.TRACKED and job.service_name == service

    def stats(self) -> dict[str, int]:
        """Return how many jobs wait in this worker, are starting, may be starting, and are in flight."""
        with self.lock:
            return {
                "waiting": len(self._jobs) - self._in_flight,
                "starting": len(self._starting),
                "window": self._window.size,
                "in_flight": self._in_flight,
            }
