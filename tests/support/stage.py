"""The worker's part played in a real ledger, and the command line run against it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import click.testing
import pytest

from jaas_submit import Attempt, Cause, JobSpec, JobState, LogLine, Logs, LogStatus
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.cli.main import cli
from jaas_submit.ledger import Created, Ledger
from jaas_submit.ledger.submission import Submission

__all__ = ["HOLDER", "OUTPUT", "START", "Stage", "ended", "on_a_terminal", "on_submit"]

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOLDER = "worker-1"
OUTPUT = (
    LogLine("2026-11-23T12:00:00.1Z", "stdout", b"one\n"),
    LogLine("2026-11-23T12:00:00.2Z", "stderr", b"two\n"),
    LogLine("2026-11-23T12:00:00.3Z", "stdout", b"three\n"),
)


def ended(cause: Cause = Cause.EXIT, code: int | None = 0, reason: str = "", number: int = 1) -> Attempt:
    """Return an attempt that ended so."""
    state = JobState.FAILED
    if cause is Cause.CANCELLED:
        state = JobState.CANCELLED
    elif code == 0:
        state = JobState.SUCCEEDED
    return Attempt(
        number=number,
        state=state,
        cause=cause,
        exit_code=code,
        reason=reason,
        node="node1",
        service="jaas-x-1",
        container_id="c1",
        started_at=START,
        finished_at=START + timedelta(seconds=1.5),
    )


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command line's streams be a terminal's."""
    streams = click.testing._NamedTextIOWrapper  # noqa: SLF001 (click has no other way)
    monkeypatch.setattr(streams, "isatty", lambda *_: True, raising=False)


def on_submit(monkeypatch: pytest.MonkeyPatch, act: Callable[[list[str]], None]) -> None:
    """Call a function with the ids of jobs whose messages have just been put into their queue.

    Args:
        monkeypatch: undoes it.
        act: the function.
    """
    create_many = Submission.create_many

    def creating(submission: Submission, jobs: Sequence[NewJob]) -> list[Created]:
        made = create_many(submission, jobs)
        told = zip(jobs, made, strict=True)
        if ids := [job.job_id for job, one in told if job.wakeup and one.new and one.state is JobState.QUEUED]:
            act(ids)
        return made

    monkeypatch.setattr("jaas_submit.ledger.submission.Submission.create_many", creating)


class Stage:
    """Plays the worker's part in the ledger, and runs the command line."""

    def __init__(self, ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger = ledger
        self.environ = {
            "JAAS_REDIS_URL": url,
            "JAAS_PREFIX": ledger.prefix,
            "JAAS_QUEUE": ledger.prefix,
            "JAAS_REDIS_URL_FILE": None,
            "NO_COLOR": None,
        }
        self.script: Callable[[str], None] | None = None
        self.threads: list[threading.Thread] = []
        on_submit(monkeypatch, self._submitted)

    def _submitted(self, ids: list[str]) -> None:
        if self.script:
            thread = threading.Thread(target=self.script, args=(ids[0],), name=f"play {ids[0]}")
            self.threads.append(thread)
            thread.start()

    def jaas(self, *args: str, stdin: str | None = None) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(
            cli, list(args), input=stdin, env=self.environ, prog_name="jaas", catch_exceptions=False
        )
        for thread in self.threads:
            thread.join(10)
        return result

    def play(self, end: Attempt, lines: Sequence[LogLine] = OUTPUT, status: LogStatus = LogStatus.COMPLETE) -> None:
        """Have the next job launched, run and ended."""
        self.ledger.maintenance.renew_lease(HOLDER, 60, {})

        def act(job_id: str) -> None:
            self.launch(job_id)
            logs = None if end.number == 0 else Logs(tuple(lines), status, "" if status == "complete" else "no more")
            assert self.ledger.ownership.finish(job_id, HOLDER, [end], logs)

        self.script = act

    def launch(self, job_id: str) -> None:
        """Take a job through the states, up to its running container."""
        self.ledger.maintenance.renew_lease(HOLDER, 60, {})
        assert self.ledger.ownership.claim(job_id, HOLDER).action == "launch"
        assert self.ledger.ownership.move(
            job_id, HOLDER, JobState.PENDING, detail="no suitable node (1 node not available)"
        )
        assert self.ledger.ownership.move(job_id, HOLDER, JobState.RUNNING, node="node1", started_at=START.timestamp())

    def add(self, spec: JobSpec | None = None, end: Attempt | None = None, logs: Logs | None = None) -> str:
        """Return the id of a job that is there already."""
        spec = spec or JobSpec(image="alpine", command=["echo", "hi"])
        job_id = f"job-{len(self.ledger.queries.ids(limit=1000)) + 1}"
        self.ledger.submission.create(job_id, spec, self.ledger.prefix)
        if end:
            self.launch(job_id)
            assert self.ledger.ownership.finish(job_id, HOLDER, [end], logs or Logs(OUTPUT))
        return job_id
