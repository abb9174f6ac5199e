"""A ledger with good jobs and victims in all the places where records are read, as it is restored before each case."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import redis

from jaas_submit import Attempt, Cause, JobSpec, JobState, LogLine, Logs
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.ledger import Ledger
from jaas_submit.model.cluster import Cluster, Node
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.wire_names import LABEL_JOB, LABEL_LEDGER, LABEL_SPEC_HASH
from jaas_worker.swarm.create_or_adopt import create_or_adopt
from tests.support.fake_swarm import FakeSwarm

__all__ = ["BATCHES", "GOOD", "LABEL", "TAKEN", "VICTIMS", "Scene"]

GOOD: Final = ("good-ended", "good-orphan", "good-released", "good-waiting", "good-overdue", "good-queued")
"""Jobs that nobody touches: they must be listed whatever stands beside them."""

TAKEN: Final = ("good-orphan", "good-released")
"""Those of them that a reconciler has to take up."""

VICTIMS: Final = tuple(name.replace("good", "bad") for name in GOOD)

BATCHES: Final = {"good": "00000000-0000-4000-8000-00000000900d", "bad": "00000000-0000-4000-8000-000000000bad"}
"""Ids of the batches."""

LABEL: Final = f"{LABEL_LEDGER}=fuzz"

_SPEC: Final = JobSpec(image="a", labels={"a": "b"})
_START: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Scene:
    """Makes it once, and restores it for each case.

    Args:
        client: of a Redis that nobody else uses: its database is emptied.
        prefix: of the keys.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client = client
        self.ledger = Ledger(client, prefix)
        client.flushdb()
        for kind in ("bad", "good"):
            self._make(kind)
        node = Node(id="n1", hostname="node1", cpus=2, memory=2**30, labels={"zone": "eu"})
        self.ledger.maintenance.save_cluster(Cluster(at=_START, nodes=(node,)))
        for holder in ("bad-worker", "good-worker"):
            self.ledger.maintenance.drop_lease(holder)
        self.ledger.maintenance.renew_lease(
            "living-worker", 86400.0, {"host": "a", "pid": 1, "queue": "q", "max_in_flight": 100}
        )
        self.ledger.maintenance.identity()
        self._kept: list[tuple[Any, Any]] = [(key, client.dump(key)) for key in client.scan_iter()]

    def _make(self, kind: str) -> None:
        ledger, worker, batch = self.ledger, f"{kind}-worker", BATCHES[kind]
        ledger.maintenance.renew_lease(worker, 600, {"host": "a", "pid": 1, "queue": "q", "max_in_flight": 100})
        ledger.batches.create(batch, name="n", max_parallel=1, speculate=Speculation(least=0))
        ledger.submission.create_many([NewJob(f"{kind}-ended", _SPEC, "q", key=f"{kind}-key")])
        ledger.ownership.claim(f"{kind}-ended", worker)
        after = ((f"{kind}-ended", "finish"),)
        ledger.submission.create_many(
            [
                NewJob(f"{kind}-released", _SPEC, "q", after=after),
                NewJob(f"{kind}-orphan", _SPEC, "q", batch=batch, index=0),
                NewJob(f"{kind}-line", _SPEC, "q", batch=batch, index=1),
                NewJob(f"{kind}-overdue", JobSpec(image="a", expires=0.001), "q"),
                NewJob(f"{kind}-queued", _SPEC, "q"),
            ]
        )
        ledger.ownership.claim(f"{kind}-orphan", worker)
        ledger.ownership.move(f"{kind}-orphan", worker, JobState.PENDING)
        ledger.ownership.move(f"{kind}-orphan", worker, JobState.RUNNING, node="node1", started_at=_START.timestamp())
        ledger.submission.create_many([NewJob(f"{kind}-waiting", _SPEC, "q", after=((f"{kind}-orphan", "success"),))])
        end = Attempt(
            number=1,
            state=JobState.SUCCEEDED,
            cause=Cause.EXIT,
            exit_code=0,
            node="node1",
            service=f"jaas-{kind}-ended-1",
            container_id="c",
            started_at=_START,
            finished_at=_START,
        )
        ledger.ownership.finish(f"{kind}-ended", worker, [end], Logs((LogLine("", "stdout", b"out\n"),)), '{"a": 1}')
        ledger.submission.cancel(f"{kind}-orphan", "enough")
        if kind == "bad":
            ledger.batches.cancel(batch, "enough")

    def restore(self) -> None:
        """Put every key back as it was."""
        pipe = self.client.pipeline(transaction=False)
        pipe.flushdb()
        for key, value in self._kept:
            pipe.restore(key, 0, value)
        pipe.execute()

    @staticmethod
    def engine() -> FakeSwarm:
        """Return an engine with the services that these jobs have."""
        engine = FakeSwarm()
        for kind in ("bad", "good"):
            for job in ("ended", "orphan"):
                labels = {LABEL_LEDGER: "fuzz", LABEL_JOB: f"{kind}-{job}", LABEL_SPEC_HASH: _SPEC.digest()}
                create_or_adopt(engine, _SPEC, f"{kind}-{job}", 1, labels)
        return engine
