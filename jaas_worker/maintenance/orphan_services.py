"""Services that no worker follows: they are removed or stopped, or their record is rebuilt."""

from __future__ import annotations

import logging
import string
import time
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial

from jaas_submit.errors import SpecError
from jaas_submit.ledger import Ledger
from jaas_submit.model.bounds import whole
from jaas_submit.model.states import JobState
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_JOB, LABEL_SIGNED, service_name
from jaas_worker.decisions.task_outcome import attempt_task
from jaas_worker.decisions.times import parse_time
from jaas_worker.maintenance.orphan_inputs import OrphanInputs, unless_refused
from jaas_worker.maintenance.ports import Worker
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine, ServiceView
from jaas_worker.swarm.membership import membership_of
from jaas_worker.swarm.service_spec import spec_of_service
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["OrphanServices"]

logger = logging.getLogger(__name__)

_MIN_AGE_S = 30.0
"""Seconds after a job's end after which its service counts as an orphan."""

_MAX_LISTED_WHOLE = 500
"""Jobs in the swarm up to which all services, of 5 KB at most, are listed in one call; with more, a part at a time."""

_FIRST_CHARACTERS = string.digits + string.ascii_lowercase
"""Of job ids. Service names begin with the id, so that these are the parts; of ids that are UUIDs, 16 equal ones."""

_ROUND_TIME_S = 1.0
"""Seconds after which a round starts no further part: the next round continues there."""


class OrphanServices:
    """Compares the swarm's services with the records. One worker at a time does so.

    Args:
        settings: how long services are kept.
        ledger: the records.
        engine: the swarm.
        label: selects this installation's services.
        worker: its own services are left alone.
    """

    def __init__(self, settings: Settings, ledger: Ledger, engine: Engine, label: str, worker: Worker) -> None:
        self._settings = settings
        self._ledger = ledger
        self._engine = engine
        self._label = label
        self._worker = worker
        self._parts: list[str] = []
        self._inputs = OrphanInputs(ledger, engine, label)

    def run_once(self) -> tuple[list[str], list[str]]:
        """Compare the swarm's services with the records: all of them, or as many parts as the time allows.

        Then remove the inputs of jobs that nobody needs any more.

        With a hundred thousand services, a list of all is 300 MB of JSON; a part of them is 1/16 of that.

        Returns:
            The names of the services that were removed, and the ids of the jobs whose record was made again.

        Raises:
            TemporaryError: Redis or the engine does not answer.
        """
        done = self._settle()
        if self._ledger.replicated():
            self._inputs.run_once()
        return done

    def _settle(self) -> tuple[list[str], list[str]]:
        counts = self._ledger.queries.counts()
        if (
            sum(counts[state] for state in (JobState.LAUNCHING, JobState.PENDING, JobState.RUNNING))
            <= _MAX_LISTED_WHOLE
        ):
            return self._settle_services("")
        removed: list[str] = []
        restored: list[str] = []
        until = time.monotonic() + _ROUND_TIME_S
        for _ in _FIRST_CHARACTERS:  # none twice in a round
            self._parts = self._parts or list(_FIRST_CHARACTERS)
            more_removed, more_restored = self._settle_services(service_name(self._parts.pop(0), 1)[:-2])
            removed += more_removed
            restored += more_restored
            if time.monotonic() > until:
                break
        return removed, restored

    def _settle_services(self, prefix: str) -> tuple[list[str], list[str]]:
        """Compare the swarm's services whose name begins so with the records.

        A service whose attempt has ended belongs to a worker that died before it could remove it. A service without a
        record is a job that Redis has lost: its record is rebuilt from the labels. If they do not hold enough, the
        service is reported, and removed when it has ended.
        """
        if not self._ledger.replicated():
            return [], []  # an outcome that a fail-over may lose needs its service again
        services = self._engine.services(self._label, prefix)
        by_job: dict[str, list[ServiceView]] = defaultdict(list)
        for service in services:
            job_id = service.labels.get(LABEL_JOB, "")
            if not self._worker.follows(job_id, service.name):
                by_job[job_id].append(service)
        now = self._ledger.now()
        removed: list[str] = []
        outlines = self._ledger.queries.outlines(list(by_job))
        for job_id in [one for one in by_job if f"job {one}" in self._ledger.unreadable]:
            del by_job[job_id]  # there is a record, even if unreadable
        for record in outlines:
            # If the job goes on, the services of earlier attempts are orphans.
            attempts = {str(number) for number in record.ended}
            left_behind = [
                service
                for service in by_job.pop(record.id)
                if record.terminal or service.labels.get(LABEL_ATTEMPT) in attempts
            ]
            grace = self._settings.late_launch_grace if record.late else _MIN_AGE_S
            if now - record.updated_at <= grace:
                if record.late:
                    self._stop_strays(left_behind)
                continue
            for service in left_behind:
                if unless_refused(record.id, service.name, partial(self._engine.remove, service.id)):
                    logger.info(
                        "removed service %s, whose attempt has ended",
                        service.name,
                        extra=action(Action.SERVICE_REMOVED, job_id=record.id, service=service.name),
                    )
                    removed.append(service.name)
        at = datetime.fromtimestamp(now, UTC)
        restored = [
            job_id
            for job_id, unknown in by_job.items()
            if unless_refused(job_id, unknown[0].name, partial(self._restore, job_id, unknown, at, removed))
        ]
        return removed, restored

    def _stop_strays(self, services: list[ServiceView]) -> None:
        """Stop the container of a request that was carried out late; the service stays, to keep its name."""
        for service in services:
            unless_refused(service.labels.get(LABEL_JOB, ""), service.name, partial(self._stop_stray, service))

    def _stop_stray(self, service: ServiceView) -> bool:
        task = attempt_task(self._engine.tasks_of(service.id))
        if task is None or task.ended or task.desired == "shutdown":
            return False
        logger.warning(
            "service %s was created after its attempt's end; stopping it",
            service.name,
            extra=action(Action.SERVICE_REMOVED, job_id=service.labels.get(LABEL_JOB, ""), service=service.name),
        )
        return self._engine.stop(service.id)

    def _restore(self, job_id: str, services: list[ServiceView], now: datetime, removed: list[str]) -> bool:
        """Rebuild the record of a job from its youngest service."""
        attempts = [(_attempt_of(service), service) for service in services]
        number, service = max(attempts, key=lambda pair: pair[0])
        created = parse_time(service.created_at)
        # A record is always older than its service; the short grace is only for clocks that differ.
        if created is None or (now - created).total_seconds() < _MIN_AGE_S:
            return False
        try:
            spec = spec_of_service(service.labels, service.env)
        except (SpecError, ValueError) as error:
            logger.warning(
                "service %s: its labels cannot be read: %s",
                service.name,
                error,
                extra=action(Action.SERVICE_UNKNOWN, job_id=job_id, service=service.name),
            )
            spec = None
        if spec is not None and number > 0:
            member, signed = membership_of(service.labels, job_id), service.labels.get(LABEL_SIGNED, "")
            if self._ledger.maintenance.restore(job_id, spec, self._settings.queue, number, **member, signed=signed):
                logger.warning(
                    "job %s: Redis had lost its record; rebuilt from service %s",
                    job_id,
                    service.name,
                    extra=action(Action.JOB_RESTORED, job_id=job_id, attempt=number, service=service.name),
                )
                return True
            return False
        task = attempt_task(self._engine.tasks_of(service.id))
        if task is None or task.ended:
            state = task.state if task else "without a task"
            logger.error(
                "removed service %s, which has no record and is %s",
                service.name,
                state,
                extra=action(Action.SERVICE_UNKNOWN, job_id=job_id, service=service.name),
            )
            if self._engine.remove(service.id):
                removed.append(service.name)
        return False


def _attempt_of(service: ServiceView) -> int:
    """Return the attempt's number of a service; 0 if its label, which anybody may have set, is invalid."""
    try:
        return whole(service.labels.get(LABEL_ATTEMPT, ""))
    except ValueError:
        return 0
