"""Following a job from a shell until it ends, and the exit code for its outcome."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from jaas_submit.cli.common import EXIT_INTERRUPTED, EXIT_JAAS, EXIT_TIMEOUT, say_why_not_taken
from jaas_submit.cli.output import Progress
from jaas_submit.errors import LedgerUnavailable, WaitTimeout
from jaas_submit.model.causes import facts_of
from jaas_submit.model.states import JobState, is_terminal

if TYPE_CHECKING:
    from datetime import datetime

    from jaas_submit.client.client import Client
    from jaas_submit.client.live_output.findings import Output
    from jaas_submit.client.live_output.job_output import JobOutput
    from jaas_submit.client.wait import Outage, Steps
    from jaas_submit.model.result import JobResult

Live: TypeAlias = "tuple[JobOutput, Callable[[Output], None]]"
"""The output of a job, and what prints it."""

__all__ = [
    "Live",
    "Terminated",
    "cancelled",
    "exit_code_of",
    "follow",
    "interrupted",
    "live_output",
    "sigterm",
    "terminated",
]

EXIT_TERMINATED: Final = 143
"""Exit code after SIGTERM, as a shell has it."""

HINTS_AFTER_S: Final = (0.0, 3.0)
"""Seconds after which, if a job is QUEUED, the command checks whether any worker can take it."""

_SECOND_CTRL_C_S: Final = 3.0
"""Seconds within which a second Ctrl-C cancels the job."""


def exit_code_of(result: JobResult) -> int:
    """Return the exit code for a job's outcome.

    Args:
        result: how it ended.

    Returns:
        The container's own if its process exited by itself. A container stopped from outside has one too, such as 143,
        but that says nothing about the job: 124 for its time limits, 125 for other causes.
    """
    if result.state is JobState.SUCCEEDED:
        return 0
    kind = facts_of(result.cause).exit_code
    if kind == "timeout":
        return EXIT_TIMEOUT
    code = result.exit_code
    # A shell sees one byte of it: 256 would read as 0.
    if kind in {"program", "launch"} and code is not None and 0 < code < 256:
        return code
    return EXIT_JAAS


def follow(
    client: Client,
    job_id: str,
    progress: Progress,
    *,
    timeout: float | None = None,
    queue_timeout: float | None = None,
    live: Live | None = None,
) -> bool:
    """Show a job's states, and perhaps its output, until it has ended, also across an outage of Redis.

    Args:
        client: where the job is.
        job_id: the job's id.
        progress: where to show it.
        timeout: seconds to wait at most; the job goes on.
        queue_timeout: seconds after which a job that is still QUEUED is cancelled.
        live: the job's output and what prints it, if it is shown too.

    Returns:
        Whether the job was given up for its ``queue_timeout``.

    Raises:
        WaitTimeout: ``timeout`` is over.
        UnknownJob: there is no such job.
        LedgerUnavailable: Redis did not answer at all, or not for a minute.
    """
    from jaas_submit.client.wait import Outage
    from jaas_submit.model.records import JobRecord

    begin = time.monotonic()
    looks = sorted(seconds for seconds in {*HINTS_AFTER_S, timeout, queue_timeout} if seconds is not None)
    outage = Outage(lambda: progress.say("Redis does not answer; the job goes on; trying again"))
    given_up, state, queue = False, None, ""
    while True:
        pause = max(looks[0] - (time.monotonic() - begin), 0.0) if looks else None
        try:
            for found in client.session.run(_steps(client, job_id, live, pause, outage)):
                if isinstance(found, JobRecord):
                    state, queue = found.state, found.queue
                    progress.change(found)
                elif live:
                    live[1](found)
        except WaitTimeout:
            if looks[0] == timeout:
                raise _timed_out(client, job_id, state, queue, timeout, progress) from None
            try:
                if state is JobState.QUEUED:
                    given_up |= _still_queued(client, job_id, queue, progress, looks[0] == queue_timeout)
            except LedgerUnavailable as error:
                time.sleep(_delay_or_raise(outage, error, job_id))
            else:
                del looks[0]
        except LedgerUnavailable as error:
            time.sleep(_delay_or_raise(outage, error, job_id))  # even if a hint is due meanwhile
        else:
            return given_up


def _timed_out(
    client: Client, job_id: str, state: JobState | None, queue: str, timeout: float, progress: Progress
) -> WaitTimeout:
    if state is JobState.QUEUED:
        say_why_not_taken(client, queue, progress)
    return WaitTimeout(f"job {job_id} is {state} after {round(timeout, 1):g} s; it goes on")


def _steps(client: Client, job_id: str, live: Live | None, pause: float | None, outage: Outage) -> Steps[Any]:
    from jaas_submit.client.wait import job_records

    return live[0].steps(pause, outage) if live else job_records(client.ledger, job_id, pause, outage)


def live_output(
    client: Client,
    job_id: str,
    attempt: int | None = None,
    since: datetime | None = None,
    tail: int | None = None,
) -> JobOutput:
    """Return the output of a job, to be followed; see ``JobHandle.logs``."""
    from jaas_submit.client.live_output.job_output import JobOutput

    return JobOutput(client.ledger, client.session.feeds(), job_id, attempt, since, tail)


def _delay_or_raise(outage: Outage, error: LedgerUnavailable, job_id: str) -> float:
    try:
        return outage.retry_delay(error)
    except LedgerUnavailable:
        if not outage.answered:
            raise
        text = f"{error}; the job goes on, and `jaas wait {job_id}` follows it again"
        raise LedgerUnavailable(text) from error


def _still_queued(client: Client, job_id: str, queue: str, progress: Progress, over: bool) -> bool:
    """Handle a job that no worker has claimed; return whether it is given up."""
    if over:
        client.cancel(job_id, "no worker took it within the time given with --timeout")
        return True
    say_why_not_taken(client, queue, progress)
    return False


def interrupted(client: Client, job_id: str, progress: Progress) -> int:
    """Leave a job running after Ctrl-C, or cancel it after a second one; return the exit code.

    Args:
        client: where the job is.
        job_id: the job's id.
        progress: where to print it.
    """
    progress.warn(f"job {job_id} goes on: `jaas wait {job_id}` follows it again, `jaas cancel {job_id}` ends it")
    if sys.stderr.isatty():
        try:
            progress.warn(f"press Ctrl-C again within {_SECOND_CTRL_C_S:g} s to cancel it now")
            time.sleep(_SECOND_CTRL_C_S)
        except KeyboardInterrupt:
            state = client.cancel(job_id, "cancelled with Ctrl-C")
            progress.warn(f"job {job_id}: {cancelled(state)}")
    return EXIT_INTERRUPTED


class Terminated(BaseException):
    """The command has received SIGTERM."""


@contextmanager
def sigterm() -> Iterator[None]:
    """Raise ``Terminated`` on SIGTERM, so that the user is told that the job goes on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def terminated(job_id: str, progress: Progress) -> int:
    """Say after SIGTERM that the job goes on; return the exit code."""
    progress.warn(f"job {job_id} goes on: `jaas wait {job_id}` follows it again, `jaas cancel {job_id}` ends it")
    return EXIT_TERMINATED


def cancelled(before: JobState) -> str:
    """Return in words what a cancellation did.

    Args:
        before: the job's state when it was asked for.
    """
    if is_terminal(before):
        return f"had ended already: {before}"
    if before in {JobState.WAITING, JobState.QUEUED, JobState.BACKOFF}:
        return "cancelled"
    return f"is {before}; its worker stops the container"
