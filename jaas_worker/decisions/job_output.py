"""PURE: a job's typed output from its log, and the input of a reduce job from other jobs' outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from jaas_submit.model.causes import Cause
from jaas_submit.model.files.listing import OutputFiles
from jaas_submit.model.files.patterns import list_bytes
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs, LogStatus
from jaas_submit.model.records import Attempt, JobRecord, Outcome
from jaas_submit.model.states import JobState

__all__ = ["Output", "output_not_kept", "output_of", "reduce_lines", "with_files", "with_listed_files", "with_output"]


_MOST_LISTED: Final = 4 * 1024 * 1024
"""Bytes of all lists of files in one record: readers take no record of any size."""

_NOT_LISTED: Final = "its files are not listed: those of later attempts leave no room in the job's record"

_MISSING: Final = "some of its output is missing"


class Output(NamedTuple):
    """A job's typed output, or why there is none."""

    text: str | None
    """JSON; None where the job returns nothing."""
    problem: str = ""


def output_of(spec: JobSpec, logs: Logs | None) -> Output:
    """Return the typed output of a job that succeeded.

    Args:
        spec: its description, which declares the output.
        logs: its captured output.
    """
    if spec.output == "none":
        return Output(None)
    logs = logs or Logs()
    if logs.status is LogStatus.UNAVAILABLE:
        return Output(None, f"its output could not be read: {logs.reason}")
    whole = not any(gap.stream == "stdout" for gap in logs.gaps)
    if spec.output == "text":
        if not whole:
            what = "it printed too much to return as text" if logs.status is LogStatus.TRUNCATED else _MISSING
            return Output(None, f"{what}: {logs.reason}")
        return Output(json.dumps(logs.stdout, ensure_ascii=False))
    if not logs.has_end("stdout"):
        return Output(None, f"{_MISSING}: {logs.reason}")
    return _json_in(logs, whole=whole)


def _json_in(logs: Logs, *, whole: bool) -> Output:
    last = logs.parts("stdout")[-1:]
    stdout = last[0].decode(errors="replace") if last and isinstance(last[0], bytes) else ""
    # Not splitlines: JSON texts may hold other separators, such as U+2028, as they are. The first line behind a gap may
    # have lost its beginning.
    lines = [line for line in stdout.split("\n")[0 if whole else 1 :] if line.strip()]
    for text in (lines[-1] if lines else "", stdout if whole else ""):
        try:
            found = json.dumps(json.loads(text, parse_constant=_refuse), ensure_ascii=False, allow_nan=False)
            found.encode()
        except UnicodeEncodeError:  # JSON may contain them, UTF-8 cannot
            return Output(None, "its output holds an unpaired surrogate, such as \\ud83d")
        except (ValueError, RecursionError):
            continue
        return Output(found)
    cut = "" if whole else f" ({logs.reason})"
    return Output(None, f"the last line of its standard output is not JSON{cut}")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def output_not_kept(node_id: str, drivers: Mapping[str, str]) -> str:
    """Return why the output of a container on another node cannot be read; empty if no reason is known.

    Args:
        node_id: the node.
        drivers: node id -> log driver, where it is known. A node where it is not is taken to be as the others.
    """
    known = {drivers[node_id]} if node_id in drivers else set(drivers.values())
    return "its node's engine keeps no output (log driver none)" if known == {"none"} else ""


def with_output(
    spec: JobSpec, outcome: Outcome, logs: Logs | None, limit: int, keep: Callable[[str], str] | None = None
) -> tuple[Outcome, str | None]:
    """Return the outcome, turned into a failure where the declared output is missing, and the output as JSON.

    Args:
        spec: the description.
        outcome: how the container ended.
        logs: its captured output.
        limit: bytes that an output may have.
        keep: stores a larger one, and returns a reference to it; None if there is no store.
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


def with_files(spec: JobSpec, outcome: Outcome, files: OutputFiles) -> Outcome:
    """Return the outcome, turned into a failure where files that the description requires are missing.

    Args:
        spec: the description.
        outcome: how the container ended.
        files: what it handed out.
    """
    fine = files.status is LogStatus.COMPLETE or not spec.require_outputs
    if fine or outcome.state is not JobState.SUCCEEDED:
        return outcome
    why = f"its files are {files.status}: {files.reason}"
    return outcome.model_copy(update={"state": JobState.FAILED, "cause": Cause.OUTPUT, "reason": why})


def with_listed_files(attempts: Iterable[Attempt], most: int = _MOST_LISTED) -> tuple[Attempt, ...]:
    """Return attempts with the lists of files that one record can hold: those of the last ones.

    Args:
        attempts: the first one first.
        most: bytes of all lists together.
    """
    found: list[Attempt] = []
    size = 0
    for attempt in reversed(tuple(attempts)):
        outputs = attempt.outputs
        if outputs is not None:
            size += list_bytes([file.name for file in outputs.files])
            if size > most and outputs.files:
                said = {"status": LogStatus.PARTIAL, "reason": _NOT_LISTED, "files": ()}
                outputs = outputs.model_copy(update=said)
        found.append(attempt.model_copy(update={"outputs": outputs}))
    return tuple(reversed(found))


def reduce_lines(records: Iterable[JobRecord], resolve: Callable[[Any], Any] = lambda value: value) -> Iterator[bytes]:
    """Yield what a reduce job reads: one JSON object a line with index, state and output of each job.

    Args:
        records: the jobs, in the order of their index.
        resolve: returns the value of a reference.
    """
    for record in records:
        row = {"index": record.index, "state": record.state, "output": resolve(record.output)}
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"
