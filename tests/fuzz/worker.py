"""Level ``worker``: a real worker process, a Redis of its own, and a simulated engine.

What a batch of cases must show: the worker lives, in the same process, its memory stays within bounds and jaas logs
no traceback; the good jobs that come before and after succeed; every entry that carries a task id is recorded as a job,
which ends or can be cancelled; nothing is left in the queue, nor unacknowledged.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import celery

from benchmarks.simulator import simulator
from jaas_submit import Client, JobSpec
from jaas_submit.connection import connect
from jaas_submit.errors import JaasError
from jaas_submit.messaging.queues import lists_of
from jaas_submit.model.records import JobRecord
from jaas_submit.model.wire_names import channel_prefix, job_id_of
from tests.fuzz.arrivals import Address, Arrival, arrival, carried_id
from tests.fuzz.cases import Case, Failure, random_of
from tests.fuzz.specimens import SECRET
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.worker import Installation

__all__ = ["BATCH", "LEVEL", "SURPRISE", "WorkerLevel"]

LEVEL: Final = "worker"
BATCH: Final = 40
"""Cases between two looks."""

_PREFIX: Final = "fuzz"
_GOOD: Final = JobSpec(image="alpine:3.20", command=["true"])
_PEAK: Final = re.compile(r"VmHWM:\s+(\d+) kB")

SURPRISE: Final = re.compile(
    r"^(.*\[jaas_worker\..*)\nTraceback \(most recent call last\):\n(?:(?:[ +].*)?\n)*(.*)$", re.MULTILINE
)
"""A traceback that jaas logs: something came out that nobody expected. Celery logs some for others' nonsense."""


class Broken(NamedTuple):
    """What was wrong after a batch."""

    why: str
    suspects: Sequence[Case]
    """The cases that may have done it."""


class WorkerLevel:
    """Runs cases of this level.

    Args:
        folder: for logs and data.
        redis: that nobody else uses.
        engine: DOCKER_HOST of a simulated engine.
        patience: seconds to wait for what takes one or two; only a failure waits so long.
    """

    def __init__(self, folder: Path, redis: OwnRedis, engine: str, patience: float = 20.0) -> None:
        self.max_growth = 400 * 2**20
        """Bytes by which the peak of a worker's memory may grow: some of the largest entries, as Python objects."""
        self._patience = patience
        self._home = Installation(redis.url, engine, _PREFIX, folder, remove_delay=0, reconcile_interval="1s")
        self._raw = connect(redis.url)
        keys = folder / "keys.toml"
        keys.write_text(f'[k]\nalgorithm = "HS256"\nproducer = "team"\nkey = "{SECRET.decode()}"\n', encoding="utf-8")
        self.worker = self._home.worker("fuzz", verify_keys=keys)
        self._client = Client(redis.url, queue=_PREFIX, prefix=_PREFIX)
        self._theirs = celery.Celery("theirs", broker=redis.url, backend=redis.url, set_as_current=False)
        self._peak = 0
        self._start()

    @classmethod
    @contextlib.contextmanager
    def made(cls, folder: Path, patience: float = 20.0) -> Iterator[WorkerLevel]:
        """Yield one with a Redis, an engine and a worker of its own, which end with it.

        Args:
            folder: for logs and data.
            patience: seconds to wait for what takes one or two.
        """
        redis = OwnRedis(folder / "redis").start()
        try:
            with simulator(folder, nodes=2, start=0.02, starts=1000) as (engine, _):
                level = cls(folder, redis, engine, patience)
                try:
                    yield level
                finally:
                    level.close()
        finally:
            redis.kill()

    def close(self) -> None:
        """End the worker."""
        self._client.close()
        self._theirs.close()
        self._home.close()

    def _start(self) -> None:
        """Start the worker, anew where something was wrong with it or with what it left in Redis."""
        self.worker.stop()
        self._raw.flushall()
        self._home.remove_services()
        self.worker.start()
        self._good()
        self._peak = self._peak_now()

    def _peak_now(self) -> int:
        found = _PEAK.search(Path(f"/proc/{self.worker.pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0

    def case(self, seed: int, number: int) -> Case:
        """Return a case for the worker that is up now."""
        to = Address(_PREFIX, _PREFIX, self.worker.holder, channel_prefix(_PREFIX, 0))
        one = arrival(random_of(seed, LEVEL, number), number, to)
        return Case(LEVEL, number, one.title, one)

    def run(self, seed: int, first: int, count: int) -> list[Failure]:
        """Run cases, in batches; return what failed, of each batch those that fail alone, too.

        Args:
            seed: of the run.
            first: number of the first case.
            count: how many.
        """
        found: list[Failure] = []
        for start in range(first, first + count, BATCH):
            numbers = range(start, min(start + BATCH, first + count))
            if broken := self.check([self.case(seed, number) for number in numbers]):
                alone = [failure for one in broken.suspects for failure in self._alone(seed, one.number)]
                name = f"{LEVEL}:{start}+{len(numbers)}"
                found += alone or [Failure(seed, name, "these cases together, and none of them alone", broken.why)]
        return found

    def _alone(self, seed: int, number: int) -> list[Failure]:
        one = self.case(seed, number)
        broken = self.check([one])
        return [Failure(seed, one.name, one.title, broken.why)] if broken else []

    def check(self, cases: Sequence[Case]) -> Broken | None:
        """Send what the cases have between good jobs; return what is wrong, after which there is a new worker."""
        pid, logged = self.worker.pid, len(self.worker.log)
        arrivals: list[Arrival] = [one.content for one in cases]
        try:
            for one in arrivals:
                for command in one.commands:
                    self._raw.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py leaves it untyped
                if one.until_gone:
                    eventually(partial(self._is_gone, one.until_gone), self._patience, "the end of a key")
            self._good()
            self._drained()
            self._recorded(arrivals)
            self._bounded(pid, logged)
        except (AssertionError, JaasError, TimeoutError) as error:
            if self.worker.alive:
                why = f"{type(error).__name__}: {str(error)[:300]}"
                lost = [one for one in cases if carried_id(one.content.entry) and not self._known(one.content)]
            else:
                why, lost = f"the worker has ended: {self.worker.log[-300:]!r}", []
            self._start()
            return Broken(why, lost or cases)
        return None

    def _known(self, one: Arrival) -> bool:
        return bool(self._raw.exists(f"{_PREFIX}:job:{job_id_of(carried_id(one.entry))}"))

    def _alive(self) -> None:
        assert self.worker.alive, "the worker has ended"

    def _is_gone(self, key: str) -> bool:
        return bool(self._raw.pttl(key) < 0)

    def _good(self) -> None:
        """Have a good job of our own and one of a foreign app succeed."""
        handle = self._client.submit(_GOOD)
        theirs = self._theirs.send_task("jaas.run", kwargs={"spec": _GOOD.to_wire()}, queue=_PREFIX)
        for job_id in (handle.id, theirs.id):
            record = self._ended(job_id)
            assert record.state == "SUCCEEDED", f"a good job is {record.state}: {record.detail[:100]}"

    def _ended(self, job_id: str) -> JobRecord:
        def look() -> list[JobRecord]:
            self._alive()
            return [record for record in self._client.ledger.queries.find([job_id]) if record.terminal]

        return eventually(look, self._patience, f"the end of job {job_id}")[0]

    def _drained(self) -> None:
        """Nothing waits, and nothing is unacknowledged."""

        def waiting() -> list[str]:
            self._alive()
            found = [name for name in lists_of(_PREFIX) if self._raw.llen(name)]
            held: Any = self._raw.hvals(f"{_PREFIX}:unacked")
            return found + [str(one)[:200] for one in held]

        eventually(
            lambda: not waiting(), self._patience, lambda: f"queue and unacked to be empty; there are {waiting()}"
        )

    def _recorded(self, arrivals: Sequence[Arrival]) -> None:
        """Every entry that carries a task id became a job, which has ended or can be cancelled."""
        entries = [one.entry for one in arrivals if one.entry]
        ids = [job_id_of(task_id) for task_id in map(carried_id, entries) if task_id]

        def missing() -> list[str]:
            self._alive()
            return [job_id for job_id in ids if not self._raw.exists(f"{_PREFIX}:job:{job_id}")]

        eventually(lambda: not missing(), self._patience, lambda: f"jobs with these ids: {missing()}")
        ids += [one.job_id for one in arrivals if one.job_id]
        for record in self._client.ledger.queries.find(ids):
            if not record.terminal:
                self._client.cancel(record.id)
        for job_id in ids:
            self._ended(job_id)

    def _bounded(self, pid: int, logged: int) -> None:
        assert self.worker.pid == pid, "the worker is another process"
        grown = self._peak_now() - self._peak
        assert grown < self.max_growth, f"its memory has grown by {grown / 2**20:.0f} MiB"
        logs = self.worker.log[logged:]
        if found := SURPRISE.search(logs):
            raise AssertionError(f"it logged a traceback: {found[1][28:228]}: {found[2][:200]}")
