"""Starts the slowest jobs of a batch a second time, if the batch asks for it: a cluster-wide duty."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Final

from jaas_submit.errors import UnknownJob, UnreadableRecord
from jaas_submit.ledger import Ledger
from jaas_submit.model.cluster import Cluster
from jaas_submit.model.ids import copy_id_of
from jaas_submit.model.records import BatchRecord, JobRecord
from jaas_submit.model.states import JobState
from jaas_worker.decisions.speculation import copy_spec, slow_jobs
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["Speculator"]

logger = logging.getLogger(__name__)

_SAMPLE: Final = 200
"""How many of a batch's latest ended jobs are used to compute the usual duration."""


class Speculator:
    """Implements ``Client.map(speculate=...)``.

    Args:
        ledger: the records.
        cluster: returns the swarm's nodes.
    """

    def __init__(self, ledger: Ledger, cluster: Callable[[], Cluster]) -> None:
        self._ledger = ledger
        self._cluster = cluster

    def run_once(self) -> list[str]:
        """Check all batches with speculation; return the ids of the jobs that were started a second time.

        Raises:
            LedgerUnavailable: Redis does not answer; the next round goes on from there.
            EngineUnavailable: the engine does not.
        """
        ids = self._ledger.batches.speculating()
        running = self._ledger.batches.running_jobs(ids) if ids else {}
        cluster = functools.cache(self._cluster)  # this asks the engine for every task: at most once a round
        copied: list[str] = []
        for batch_id in ids:
            try:
                batch = self._ledger.batches.get(batch_id)
                # Most rounds start nothing: they should not read the outputs of ended jobs.
                if batch.speculate and any(ran > batch.speculate.least for ran in running[batch_id].values()):
                    copied += self._copy(batch, running[batch_id], cluster)
            except (UnknownJob, UnreadableRecord):  # expired, or unreadable and named in the log
                self._ledger.batches.stop_speculating(batch_id)
        return copied

    def _copy(self, batch: BatchRecord, running: dict[str, float], cluster: Callable[[], Cluster]) -> list[str]:
        sample = self._ledger.queries.find(
            self._ledger.batches.ended_jobs(batch.id, max(batch.ended - _SAMPLE, 0), _SAMPLE)
        )
        durations = [
            record.last.duration
            for record in sample
            if record.state is JobState.SUCCEEDED and record.last and record.last.duration is not None
        ]
        slow = slow_jobs(batch, running, durations, batch.copies, batch.active)
        records = self._ledger.queries.find(slow) if slow else []
        return [record.id for record in records if self._start(record, running[record.id], cluster)]

    def _start(self, record: JobRecord, ran: float, cluster: Callable[[], Cluster]) -> bool:
        spec = copy_spec(record, cluster(), self._ledger.now() - record.created_at.timestamp())
        copy_id = copy_id_of(record.id)
        detail = f"runs for long ({ran:.0f} s): started a second time, as job {copy_id}"
        if spec is None or not self._ledger.batches.start_copy(record.id, spec, detail, record.signed):
            return False
        logger.info(
            "job %s: %s", record.id, detail, extra=action(Action.JOB_COPY_SUBMITTED, job_id=record.id, copy=copy_id)
        )
        return True
