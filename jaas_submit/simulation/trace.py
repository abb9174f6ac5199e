"""PURE: traces of jobs, as lines of JSON and in the Standard Workload Format."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import bounded, parse_duration, parse_size, shown
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.forecast.history import kind_of
from jaas_submit.queues.rules import HIGHEST_PRIORITY
from jaas_submit.queues.snapshot import LineKey

__all__ = ["ALL_NODES", "TracedJob", "parse_json_line", "parse_trace"]

ALL_NODES: Final = "all"
"""The one class of nodes of a model cluster."""

_MOST_OF_A_LINE: Final = 64 * 1024
_FIELDS: Final = frozenset(
    {"id", "submit", "run", "start", "cpus", "memory", "queue", "tenant", "priority"}
    | {"groups", "rate", "singleton", "image", "label", "deadline"}
)


@dataclass(frozen=True, slots=True)
class TracedJob:
    """A job of a trace. Times are in seconds from the trace's own beginning."""

    id: str
    key: LineKey
    submit: float
    run: float
    """How many seconds it ran."""
    start: float | None = None
    """When it really started; None where the trace does not tell."""
    deadline: float | None = None
    """Seconds from its submission in which it should have ended."""


def parse_trace(lines: Iterable[str]) -> list[TracedJob]:
    """Return the jobs of a trace in the order of submission.

    Args:
        lines: JSON objects, one a line; or the Standard Workload Format, which a line that begins with ``;`` or a digit
            tells.

    Raises:
        SpecError: a line is neither; the text names its number and the field.
    """
    jobs = list(_jobs(lines))
    if not jobs:
        raise SpecError("trace: has no jobs")
    if len({job.id for job in jobs}) < len(jobs):
        raise SpecError("trace: two jobs have the same id; leave id out to have them numbered", field="id")
    return sorted(jobs, key=lambda job: (job.submit, job.id))


def _jobs(lines: Iterable[str]) -> Iterator[TracedJob]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith((";", "#")):
            continue
        try:
            bounded(text, _MOST_OF_A_LINE)
            job = parse_json_line(text, f"{number}") if text.startswith("{") else _swf(text)
        except SpecError as error:
            raise SpecError(f"trace, line {number}: {error}", field=error.field) from None
        except ValueError as error:
            raise SpecError(f"trace, line {number}: {error}") from None
        if job is not None:
            yield job


def parse_json_line(text: str, number: str) -> TracedJob:
    """Return the job that a line of JSON says.

    Args:
        text: ``{"submit": 0, "run": 12.5}`` and what else a job asks for; submit may be seconds since any time.
        number: its id, if it has none.

    Raises:
        SpecError: a field is wrong.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"is no JSON: {shown(str(error))}") from None
    if unknown := said.keys() - _FIELDS:
        raise SpecError(f"{shown(min(unknown))}: is no field of a traced job; there are {', '.join(sorted(_FIELDS))}")
    cpus = _number(said, "cpus", 0.0)
    try:
        memory = parse_size(said.get("memory", 0))
    except ValueError as error:
        raise SpecError(f"memory: {error}", field="memory") from None
    priority = said.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= HIGHEST_PRIORITY:
        raise SpecError("priority: must be a whole number between 0 and 255", field="priority")
    kind = kind_of(_text(said, "image", ""), _text(said, "label", ""))
    demand = Demand.of(
        cpus=cpus,
        memory=memory,
        nodes=ALL_NODES,
        kind=kind,
        groups=_object(said, "groups"),
        rates=_object(said, "rate"),
        singleton=_text(said, "singleton", ""),
    )
    key = LineKey(_text(said, "queue", "default"), _text(said, "tenant", ""), priority, demand)
    start = None if said.get("start") is None else _number(said, "start", 0.0)
    deadline = None if said.get("deadline") is None else _number(said, "deadline", 0.0)
    return TracedJob(
        _text(said, "id", number), key, _number(said, "submit", None), _number(said, "run", None), start, deadline
    )


def _number(said: Mapping[str, Any], name: str, default: float | None) -> float:
    value = said.get(name, default)
    if isinstance(value, str):
        try:
            value = parse_duration(value) if name in {"run", "deadline"} else float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise SpecError(f"{name}: must be a number of 0 or more", field=name)
    return float(value)


def _text(said: Mapping[str, Any], name: str, default: str) -> str:
    value = said.get(name, default)
    if not isinstance(value, str):
        raise SpecError(f"{name}: must be a text", field=name)
    return value


def _object(said: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = said.get(name) or {}
    if not isinstance(value, dict) or not all(
        isinstance(each, str if name == "rate" else int) for each in value.values()
    ):
        example = '{"example.com": "10/s"}' if name == "rate" else '{"db": 1}'
        raise SpecError(f"{name}: must be an object such as {example}", field=name)
    return value


_SWF_FIELDS: Final = 18


def _swf(text: str) -> TracedJob | None:
    """Return the job in a line of the Standard Workload Format, version 2.2; None for one that never ran.

    Its fields: 1 number, 2 submit, 3 wait, 4 run, 5 processors, 7 memory used (KB a processor), 8 processors asked for,
    10 memory asked for, 12 user, 14 program, 15 queue; -1 where it is not known.
    """
    words = text.split()
    if len(words) != _SWF_FIELDS:
        raise SpecError(f"has {len(words)} fields; the Standard Workload Format has {_SWF_FIELDS}")
    try:
        fields = [float(word) for word in words]
    except ValueError:
        raise SpecError("has a field that is no number") from None
    if not all(math.isfinite(field) for field in fields):
        raise SpecError("has a field that is no number")
    number, submit, wait, run, processors, _, used, asked, _, memory, _, user, _, program, queue = fields[:15]
    if run < 0 or submit < 0:
        return None
    cpus = max(asked if asked > 0 else processors, 0.0)
    kilobytes = max(memory if memory > 0 else used, 0.0) * max(cpus, 1.0)
    demand = Demand.of(cpus=cpus, memory=int(kilobytes * 1024), nodes=ALL_NODES, kind=f"program{program:.0f}")
    key = LineKey(f"queue{max(queue, 0):.0f}", f"user{user:.0f}" if user >= 0 else "", 0, demand)
    return TracedJob(f"{number:.0f}", key, submit, run, submit + wait if wait >= 0 else None)
