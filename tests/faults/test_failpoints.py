"""Every failpoint once: the worker dies right there, and its successor brings the job to its right end, with one start.

The scenarios run beside each other, a few at a time, before the first test looks at its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from jaas_submit import Cause, Client, JobRecord, JobState
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.output import AgentLeases
from jaas_worker.failpoints import FAILPOINTS
from tests.support.redis_server import OwnRedis
from tests.support.theirs import run_their_code
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.timeout(900)]

PATIENCE = 180.0
"""Seconds to wait for what happens within ten where little else does."""

AT_ONCE = 5
"""Scenarios beside each other: each has a worker, whose start takes a second of a processor."""

SETTINGS = {"lease": "2s", "reconcile_interval": "0.3", "republish_after": "2s"}

BEFORE_THE_END = ("intake", "claim", "accept", "create", "pending", "running")
"""First words of the labels that a job comes by while its container has not ended."""


@dataclass(frozen=True)
class Seen:
    """What is left of a scenario."""

    exit_code: int
    """Of the worker with the failpoint."""
    record: JobRecord
    starts: list[str]
    celery_state: str
    output: str
    bodies: list[str]
    """Starts of the body of the chord that the job was a part of."""
    log: str


class Scenario:
    """One label.

    Args:
        label: the failpoint.
        home: an installation of its own.
        witness: a witness of its own.
    """

    def __init__(self, label: str, home: Installation, witness: Witness) -> None:
        self.label = label
        self.kind = label.partition(".")[0]
        self.home = home
        self.witness = witness
        store = f"file://{home.folder}/store" if self.kind == "files" else ""
        self.settings = {"store_url": store} if store else {}
        self.client = Client(home.redis_url, queue=home.queue, prefix=home.prefix, store=store)

    def spec(self) -> JobSpec:
        """Return the job: waits for the gate, says hello, and ends with exit code 4 (with 7 where it is retried)."""
        end = f"{self.witness.held()}; echo hello; exit 4"
        if self.kind == "retry":
            retry = {"max_attempts": 2, "backoff": {"kind": "constant", "delay": 0, "jitter": "none"}}
            return self.witness.spec(f'[ "$JAAS_ATTEMPT" = 2 ] || exit 7; {end}', retry=retry)
        if self.kind == "files":
            return self.witness.spec(f"echo out > /tmp/file; {end}", outputs=["/tmp/file"])
        return self.witness.spec(end, check=self.kind != "chord")

    def send_chord(self) -> str:
        """Send a chord whose last part is the job, and return the job's id."""
        ids = [f"{name}-{self.home.prefix}" for name in ("first", "last", "body")]
        specs = [spec.to_wire() for spec in (self.witness.spec(), self.spec(), self.witness.spec())]
        code = (
            "from celery import chord\n"
            f"parts = [app.signature('jaas.run', kwargs={{'spec': spec}}, queue={self.home.queue!r}, task_id=job_id)\n"
            f"    for job_id, spec in zip({ids!r}, {specs!r})]\n"
            "chord(parts[:2])(parts[2])\n"
        )
        run_their_code(self.home.redis_url, self.home.folder, code)
        self.client.app.AsyncResult(ids[0]).get(timeout=60)
        return ids[1]

    def records(self, job_id: str) -> list[JobRecord]:
        """Return the job's record, if there is one."""
        return self.client.ledger.queries.find([job_id])

    def send_foreign(self) -> str:
        """Send the job as a foreign producer does, and return its id."""
        job_id = f"foreign-{self.home.prefix}"[:52].rstrip("-")
        job = f"kwargs={{'spec': {self.spec().to_wire()!r}}}, queue={self.home.queue!r}, task_id={job_id!r}"
        run_their_code(self.home.redis_url, self.home.folder, f"app.send_task('jaas.run', {job})\n")
        return job_id

    def send(self) -> str:
        """Send the job in the way that leads to the failpoint, and return its id."""
        if self.kind == "chord":
            return self.send_chord()
        return self.send_foreign() if self.kind == "intake" else self.client.submit(self.spec()).id

    def play(self) -> Seen:
        """Play it to its end."""
        doomed = self.home.worker("doomed", failpoint=self.label, **self.settings).launch()
        if self.kind == "files":  # a job with files is refused where no node has an agent
            eventually(AgentLeases(self.home.ledger.client, self.home.prefix).nodes, PATIENCE, lambda: "an agent")
        job = self.client.handle(self.send(), lazy=True)
        if self.kind in {"stop", "release"}:
            eventually(lambda: job.state is JobState.RUNNING, PATIENCE, lambda: f"the job to run:\n{doomed.log}")
            if self.kind == "stop":
                job.cancel("by the test")
            else:
                os.kill(doomed.pid, signal.SIGTERM)
        elif self.kind not in BEFORE_THE_END:
            self.witness.open()
        eventually(lambda: not doomed.alive, PATIENCE, lambda: f"the worker to die at {self.label}:\n{doomed.log}")
        successor = self.home.worker("successor", **self.settings).launch()
        self.witness.open()

        def ended() -> bool:
            return any(record.terminal and record.reported for record in self.records(job.id))

        eventually(ended, PATIENCE, lambda: f"the job to end: {self.records(job.id)!r}\n{doomed.log}\n{successor.log}")
        if self.kind == "chord":
            self.client.app.AsyncResult(f"body-{self.home.prefix}").get(timeout=60)
        seen = Seen(
            doomed.stop(),
            job.record(),
            self.witness.starts(job.id),
            str(self.client.app.backend.get_task_meta(job.id)["status"]),
            job.logs().stdout,
            self.witness.starts("body-"),
            f"{doomed.log}\n{successor.log}",
        )
        successor.stop()
        return seen


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, _engine: str) -> Iterator[dict[str, Future[Seen]]]:
    """All scenarios, under way."""
    server = OwnRedis(tmp_path_factory.mktemp("redis")).start()
    homes: list[Installation] = []

    def play(label: str) -> Seen:
        folder: Path = tmp_path_factory.mktemp(label)
        home = Installation(server.url, _engine, f"t-{label.replace('.', '-')}-{server.port}", folder, **SETTINGS)
        homes.append(home)
        return Scenario(label, home, Witness(folder / "witness")).play()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {label: pool.submit(play, label) for label in FAILPOINTS}
        pool.shutdown(cancel_futures=True)
    for home in homes:
        with suppress(redis.RedisError):
            home.close()
    server.kill()


@pytest.mark.parametrize("label", FAILPOINTS)
def test_a_worker_that_dies_at_a_failpoint_costs_nothing(played: dict[str, Future[Seen]], label: str) -> None:
    seen = played[label].result()
    kind = label.partition(".")[0]
    attempts = 2 if kind == "retry" else 1

    assert seen.exit_code == -signal.SIGKILL, f"the worker did not come by {label}"
    assert sorted(line.split()[1] for line in seen.starts) == [str(n + 1) for n in range(attempts)], seen.log
    assert len(seen.record.attempts) == attempts
    last = seen.record.attempts[-1]
    if kind == "stop":
        assert (seen.record.state, last.cause) == (JobState.CANCELLED, Cause.CANCELLED), seen.log
        assert seen.celery_state == "REVOKED", seen.log
    elif kind == "chord":
        assert (seen.celery_state, seen.output, len(seen.bodies)) == ("SUCCESS", "hello\n", 1), seen.log
    else:
        assert (seen.record.state, last.cause, last.exit_code) == (JobState.FAILED, Cause.EXIT, 4), seen.log
        assert (seen.celery_state, seen.output) == ("FAILURE", "hello\n"), seen.log
    files = last.outputs.files if last.outputs else ()
    assert [file.name for file in files] == ["tmp/file"] * (kind == "files"), seen.log
