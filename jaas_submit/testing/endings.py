"""PURE: how a job is to end in a test, and the attempt and output that come of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from jaas_submit.errors import SpecError
from jaas_submit.model.causes import CAUSES, Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import LogLine, Logs, Stream
from jaas_submit.model.records import Attempt, JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.model.validation import member, plain_input

__all__ = ["Ended", "Ending", "Ends", "ended", "fails", "runs", "succeeds"]

NODE: Final = "memory"
"""Name of the node on which all jobs run."""

_NO_CONTAINER: Final = frozenset(
    {Cause.IMAGE, Cause.UNSCHEDULABLE, Cause.LAUNCH, Cause.PENDING_TIMEOUT, Cause.DEADLINE, Cause.EXPIRED}
    | {Cause.REFUSED}
)
"""Causes with which no container ran."""

_EXIT_CODES: Final = {Cause.EXIT: 1, Cause.OOM: 137, Cause.RUN_TIMEOUT: 143}
"""What a container ends with where the test says nothing else; with other causes it has no exit code."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job is to end; ``succeeds``, ``fails`` and ``runs`` make one."""

    cause: Cause = Cause.EXIT
    exit_code: int | None = 0
    reason: str = ""
    stdout: str = ""
    stderr: str = ""
    output: Any = None
    """What the job returns, where its description declares an output."""
    running: bool = False
    """Whether it does not end, until the test ends or cancels it."""


Ends = Ending | Callable[[JobSpec], Ending]
"""How jobs end: all in the same way, or as a function of the description says."""


def succeeds(output: Any = None, *, stdout: str = "", stderr: str = "") -> Ending:
    """Return the ending of a job that exits with 0.

    Args:
        output: what it returns, a JSON value. Its description must declare an output (``output="json"`` or ``"text"``).
            None takes it from ``stdout``, as in an installation.
        stdout: what it prints.
        stderr: what it prints as errors.

    Raises:
        SpecError: ``output`` is no JSON value.
    """
    return Ending(stdout=stdout, stderr=stderr, output=None if output is None else plain_input(output))


def fails(
    exit_code: int | None = None,
    *,
    cause: Cause | str = Cause.EXIT,
    reason: str = "",
    stdout: str = "",
    stderr: str = "",
) -> Ending:
    """Return the ending of a job that fails.

    Args:
        exit_code: of its container; None takes 1, or what fits the cause.
        cause: why it fails, such as ``Cause.OOM`` or ``"image"``.
        reason: the cause in words.
        stdout: what it prints.
        stderr: what it prints as errors.

    Raises:
        SpecError: there is no such cause, jobs do not fail by it, or they would succeed with this exit code.
    """
    why = member(Cause, "cause", cause) or Cause.EXIT
    if CAUSES[why].state is not JobState.FAILED:
        raise SpecError(f"cause: no job fails by {why}; cancel it with `handle.cancel()`", field="cause")
    if why is Cause.EXIT and exit_code == 0:
        raise SpecError("exit_code: a job that exits with 0 has succeeded; give another one", field="exit_code")
    code = _EXIT_CODES.get(why) if exit_code is None else exit_code
    return Ending(why, code, reason, stdout, stderr)


def runs() -> Ending:
    """Return the ending of a job that runs until the test ends it (``FakeClient.end``) or somebody cancels it."""
    return Ending(running=True)


@dataclass(frozen=True, slots=True)
class Ended:
    """What a worker would write of an attempt that ended so."""

    attempt: Attempt
    logs: Logs | None
    output: str | None


def ended(record: JobRecord, ending: Ending, now: datetime) -> Ended:
    """Return what a worker would write.

    Args:
        record: the job.
        ending: how it ends.
        now: the time.

    Raises:
        SpecError: the ending has an output, and the job's description declares none.
    """
    kind = record.spec.output if record.spec else "none"
    if ending.output is not None and kind == "none":
        label = record.label
        raise SpecError(
            f'output: the test says what `{label}` returns, but its description declares no output; add output="json"',
            field="output",
        )
    ran = ending.cause not in _NO_CONTAINER
    well = ending.cause is Cause.EXIT and ending.exit_code == 0
    attempt = Attempt(
        number=record.attempt,
        state=JobState.SUCCEEDED if well else CAUSES[ending.cause].state,
        cause=ending.cause,
        reason=ending.reason,
        exit_code=ending.exit_code if ran else None,
        node=NODE if ran else None,
        service=f"jaas-{record.id}-{record.attempt}",
        container_id=record.id if ran else None,
        oom_killed=ending.cause is Cause.OOM,
        started_at=now if ran else None,
        finished_at=now if ran else None,
    )
    stdout, output = _printed(ending, kind if well else "none")
    if well and kind == "json" and output is None:
        attempt = attempt.model_copy(
            update={
                "state": JobState.FAILED,
                "cause": Cause.OUTPUT,
                "reason": "the last line of its standard output is not JSON",
            }
        )
    lines = _lines("stdout", stdout, now) + _lines("stderr", ending.stderr, now)
    return Ended(attempt, Logs(lines) if ran else None, output)


def _printed(ending: Ending, kind: str) -> tuple[str, str | None]:
    """Return standard output, and the typed output as JSON."""
    stdout, told = ending.stdout, ending.output
    if kind == "none":
        return stdout, None
    if kind == "text":
        text = stdout if told is None else str(told)
        return text, json.dumps(text)
    if told is not None:
        text = json.dumps(told)
        return stdout or f"{text}\n", text
    last = next((line for line in reversed(stdout.split("\n")) if line.strip()), "")
    try:
        return stdout, json.dumps(json.loads(last))
    except ValueError:
        return stdout, None


def _lines(stream: Stream, text: str, now: datetime) -> tuple[LogLine, ...]:
    return tuple(LogLine(now.isoformat(), stream, line.encode()) for line in text.splitlines(keepends=True))
