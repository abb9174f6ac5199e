"""PURE: what a job returns, out of what it printed; what a reduce job gets, out of what others returned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import JobRecord, Outcome
from jaas_submit.model.states import JobState

__all__ = ["Output", "output_of", "reduce_lines", "with_output"]


class Output(NamedTuple):
    """A job's typed output, or why there is none."""

    text: str | None
    """JSON; None where the job returns nothing."""
    problem: str = ""


def output_of(spec: JobSpec, logs: Logs | None) -> Output:
    """Return what a job that ended well returns.

    Args:
        spec: its description, which declares what it is.
        logs: what it printed.
    """
    if spec.output == "none":
        return Output(None)
    logs = logs or Logs()
    if logs.status is LogStatus.UNAVAILABLE:
        return Output(None, f"its output could not be read: {logs.reason}")
    stdout = logs.stdout
    if spec.output == "text":
        if logs.status is LogStatus.TRUNCATED:
            return Output(None, f"it printed too much to return as text: {logs.reason}")
        return Output(json.dumps(stdout, ensure_ascii=False))
    return _json_in(stdout, logs)


def _json_in(stdout: str, logs: Logs) -> Output:
    # Not splitlines: JSON texts may hold other separators, such as U+2028, as they are.
    lines = [line for line in stdout.split("\n") if line.strip()]
    for text in (lines[-1] if lines else "", stdout):
        try:
            found = json.dumps(json.loads(text, parse_constant=_refuse), ensure_ascii=False, allow_nan=False)
            found.encode()
        except UnicodeEncodeError:  # JSON may name them, and no text can hold them
            return Output(None, "its output holds an unpaired surrogate, such as \\ud83d")
        except (ValueError, RecursionError):
            continue
        return Output(found)
    cut = f" ({logs.reason})" if logs.status is LogStatus.TRUNCATED else ""
    return Output(None, f"the last line of its standard output is not JSON{cut}")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def with_output(
    spec: JobSpec, outcome: Outcome, logs: Logs | None, limit: int, keep: Callable[[str], str] | None = None
) -> tuple[Outcome, str | None]:
    """Return the outcome, turned into a failure where the declared output is missing, and the output as JSON.

    Args:
        spec: the description.
        outcome: how the container ended.
        logs: what it printed.
        limit: bytes that an output may have.
        keep: puts a larger one elsewhere, and returns what stands for it; None where there is no such place.
    """
    if outcome.state is not JobState.SUCCEEDED:
        return outcome, None
    text, problem = output_of(spec, logs)
    if text is not None and len(text.encode()) > limit:
        if keep is not None:
            return outcome, keep(text)
        problem = f"its output has {len(text.encode()):,} bytes, more than the {limit:,} allowed (JAAS_OUTPUT_LIMIT)"
    if problem:
        return outcome.model_copy(update={"state": JobState.FAILED, "cause": Cause.OUTPUT, "reason": problem}), None
    return outcome, text


def reduce_lines(records: Iterable[JobRecord], resolve: Callable[[Any], Any] = lambda value: value) -> Iterator[bytes]:
    """Yield what a reduce job reads: one JSON object a line with index, state and output of each job.

    Args:
        records: the jobs, in the order of their index.
        resolve: gets what a reference stands for.
    """
    for record in records:
        row = {"index": record.index, "state": record.state, "output": resolve(record.output)}
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"
