"""Jobs that nobody holds are taken into this worker's own pool, without the way through the queue."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from jaas_submit.errors import TemporaryError, UnknownJob, UnreadableRecord
from jaas_submit.ledger import Ledger
from jaas_worker.maintenance.ports import Worker
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["take_jobs"]

logger = logging.getLogger(__name__)


def take_jobs(ledger: Ledger, worker: Worker, job_ids: Iterable[str]) -> list[str]:
    """Have a worker take jobs; return the ids of those that it took.

    Args:
        ledger: where a job that cannot be taken is set aside.
        worker: the worker; what it knows already it is not given again.
        job_ids: the jobs.

    Raises:
        TemporaryError: Redis does not answer.
    """
    taken = [job_id for job_id in job_ids if not worker.knows(job_id) and _taken(ledger, worker, job_id)]
    if taken:
        logger.info(
            "took over %d jobs without a holder: %s",
            len(taken),
            ", ".join(taken[:5]),
            extra=action(Action.RECONCILE_TOOK_OVER),
        )
    return taken


def _taken(ledger: Ledger, worker: Worker, job_id: str) -> bool:
    """Take one job; False if that fails, so that the others are still handled."""
    try:
        worker.inject(job_id)
    except TemporaryError:
        raise
    except UnknownJob:  # expired just now
        return False
    except Exception as error:
        if not isinstance(error, UnreadableRecord):  # which the ledger has logged
            logger.exception("job %s cannot be taken", job_id, extra=action(Action.STEP_FAILED, job_id=job_id))
        ledger.maintenance.set_aside(job_id)
        return False
    return True
