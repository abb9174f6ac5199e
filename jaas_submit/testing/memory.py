"""An imitation of Redis in this process, and the ledger in it, where the worker's part is played."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from jaas_submit.errors import JaasError, how_to_install
from jaas_submit.ledger import ClaimAction, Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.testing.endings import NODE, Ending, Ends, ended

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis
    import redis.asyncio

__all__ = ["Memory", "PlayedLedger"]

_HOLDER: Final = "memory"
_LEASE_S: Final = 365 * 86400
_MOST: Final = 10_000


class Memory:
    """A Redis that only this process has.

    Raises:
        JaasError: the packages for it are not installed.
    """

    def __init__(self) -> None:
        try:
            import fakeredis
            import lupa  # noqa: F401 (fakeredis runs scripts with it, and says so only when one is run)
        except ImportError as error:
            raise JaasError(f"clients in memory need fakeredis and lupa: {how_to_install('testing')}") from error
        self._kinds: tuple[Callable[..., Any], Callable[..., Any]] = (fakeredis.FakeRedis, fakeredis.FakeAsyncRedis)
        self._server = fakeredis.FakeServer(version=(7, 4))

    def connect(self) -> redis.Redis:
        """Return a client."""
        made: redis.Redis = self._kinds[0](server=self._server, version=(7, 4))
        return made

    def connect_async(self) -> redis.asyncio.Redis:
        """Return a client for asyncio."""
        made: redis.asyncio.Redis = self._kinds[1](server=self._server, version=(7, 4))
        return made


class PlayedLedger(Ledger):
    """A ledger where jobs are started and ended as told, in the thread that submits them, before that call returns.

    Args:
        client: a connection.
        prefix: first part of every key.
        queue: the queue that is served.
        ends: how jobs end.
    """

    def __init__(self, client: redis.Redis, prefix: str, queue: str, ends: Ends) -> None:
        super().__init__(client, prefix)
        self.ends = ends
        self._playing = False
        self._one_at_a_time = threading.RLock()
        worker = {"holder": _HOLDER, "queue": queue, "queues": [queue], "max_in_flight": _MOST}
        self.maintenance.renew_lease(_HOLDER, _LEASE_S, worker)

    def run(self, script: str, what: str, *texts: str | bytes, **named: object) -> Any:
        """Run a script; then play what a worker would do now."""
        answer = super().run(script, what, *texts, **named)
        self.play()
        return answer

    def play(self) -> None:
        """Do what a worker would do now: start and end jobs, stop cancelled ones, go on with what comes after."""
        with self._one_at_a_time:
            if self._playing:  # a script that is part of it
                return
            self._playing = True
            try:
                while self._round():
                    pass
            finally:
                self._playing = False

    def _round(self) -> bool:
        """Play what there is; return whether there was anything."""
        due = self.maintenance.due()
        if due.release_dependents:
            self.maintenance.release_dependents()
        if due.end_overdue:
            self.maintenance.end_overdue()
        for batch_id in self.batches.cancelling() if due.cancelling else ():
            self.batches.cancel_jobs(batch_id)
        stopped = self.ownership.cancellations_for(_HOLDER)
        if stopped:
            self.ownership.acknowledge_cancellations(_HOLDER, stopped)
        for record in self.queries.find(stopped):
            self._finish(record, Ending(Cause.CANCELLED, None, record.cancel))
        started = self.maintenance.unowned(0.0) if due.unowned else []
        started += reversed(self.queries.ids(JobState.QUEUED, _MOST))
        for job_id in started:
            self._start(job_id)
        return bool(stopped or started)

    def _start(self, job_id: str) -> None:
        claim = self.ownership.claim(job_id, _HOLDER)
        if claim.action is not ClaimAction.LAUNCH or claim.record is None:
            return
        self.ownership.move(job_id, _HOLDER, JobState.PENDING)
        self.ownership.move(job_id, _HOLDER, JobState.RUNNING, node=NODE, started_at=self.now())
        ending = self.ends if isinstance(self.ends, Ending) else self.ends(claim.record.spec or JobSpec(image="none"))
        if not ending.running:
            self._finish(claim.record, ending)

    def end(self, job_id: str, ending: Ending) -> None:
        """End a job that runs; see ``FakeClient.end``."""
        record = self.queries.get(job_id)
        if record.state is not JobState.RUNNING:
            raise JaasError(f"job {job_id} is {record.state}, and only one that runs can be ended")
        self._finish(record, ending)

    def _finish(self, record: JobRecord, ending: Ending) -> None:
        if record.terminal:
            return
        found = ended(record, ending, datetime.fromtimestamp(self.now(), UTC))
        self.ownership.finish(record.id, _HOLDER, [found.attempt], found.logs, found.output)
        self.ownership.mark_reported(record.id, _HOLDER)
