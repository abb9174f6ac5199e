"""How `jaas` prints: data on stdout, progress on stderr, colour and tables on a terminal only."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from jaas_submit.model.causes import Cause, facts_of
from jaas_submit.model.states import JobState

if TYPE_CHECKING:
    from jaas_submit.model.job_spec import JobSpec
    from jaas_submit.model.records import Attempt, JobRecord
    from jaas_submit.model.result import JobResult
    from jaas_submit.placement.placement import NodeFit

__all__ = [
    "DEAD_HEADERS",
    "FIT_HEADERS",
    "LIST_HEADERS",
    "Progress",
    "dead_row",
    "duration",
    "fit_row",
    "list_row",
    "moment",
    "one_line",
    "print_details",
    "print_json",
    "print_lines",
    "print_plain",
    "print_table",
    "record_json",
    "spec_json",
    "status_rows",
]

_COLOURS: Final[dict[str, str]] = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
    JobState.RUNNING: "cyan",
    JobState.BACKOFF: "yellow",
    "ok": "green",
    "warn": "yellow",
    "FAIL": "red",
}
"""Colour of a cell by its text: job states, and the doctor's verdicts."""

_WIDEST_JOB: Final = 60

_CONTROLS: Final = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that JSON may hold as they are, and that control a terminal: DEL, C1, and what turns the direction."""

LIST_HEADERS: Final = ("ID", "STATE", "EXIT", "AGE", "RAN", "NODE", "BATCH", "JOB", "WHY")
DEAD_HEADERS: Final = ("ID", "CAUSE", "EXIT", "ATTEMPTS", "GAVE UP", "NODE", "REPLAYED", "JOB", "WHY")
FIT_HEADERS: Final = ("NODE", "FITS", "FREE CORES", "FREE MEMORY", "WHY NOT", "ITS AGENT SAYS")


class Progress:
    """Progress lines on stderr.

    Args:
        quiet: print only what the user must know.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._begin: float | None = None
        self._last = ""
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            self.warn(text)

    def say_once(self, text: str) -> None:
        """Print a line, unless quiet, and unless it has been printed."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def warn(self, text: str) -> None:
        """Print a line, even when quiet."""
        click.echo(f"jaas: {one_line(text)}", err=True)

    def change(self, record: JobRecord) -> None:
        """Print a job's state, unless it was printed last or the job has ended: the end has its own line."""
        if record.terminal:
            return
        text = click.style(one_line(record.state.lower()), fg=_COLOURS.get(record.state))
        if record.state is JobState.RUNNING and record.node:
            text += f" on {one_line(record.node)}"
        if record.detail:
            text += f": {one_line(record.detail)}"
        if text == self._last or self.quiet:
            return
        self._last = text
        now = time.monotonic()
        self._begin = now if self._begin is None else self._begin
        click.echo(f"jaas: {now - self._begin:5.1f} s  {text}", err=True)

    def ended(self, result: JobResult, code: int) -> None:
        """Print how a job ended. Quiet omits it if the exit code is the container's own."""
        ran = f" ({duration(result.duration)})" if result.duration is not None else ""
        own = result.ok or (facts_of(result.cause).exit_code == "program" and code == result.exit_code)
        if not (self.quiet and own):
            self.warn(result.sentence() + ran)


def print_json(data: Mapping[str, Any] | Sequence[Any], *, indent: int | None = None) -> None:
    """Print JSON: on one line unless it is indented, so that several objects are JSON Lines."""
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    click.echo(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headers: with rich on a terminal, elsewhere in plain columns."""
    cleaned = [[one_line(cell) for cell in row] for row in rows]
    if not (sys.stdout.isatty() and _print_rich(headers, cleaned)):
        print_plain(headers, cleaned)


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return False if rich is not installed: it is an extra."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        # Ids must be complete for copying; texts on the right are cut.
        table.add_column(header, no_wrap=number == 0, overflow="fold")
    for row in rows:
        # Text, so that square brackets in a command are not markup.
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console().print(table)
    return True


def print_plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headers in plain columns, one line each."""
    lines = [list(headers), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            click.style(cell.ljust(width), fg=_COLOURS[cell]) if cell in _COLOURS else cell.ljust(width)
            for cell, width in zip(line, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def print_lines(lines: Iterable[str]) -> None:
    """Print sentences, one a line."""
    for line in lines:
        click.echo(one_line(line))


def print_details(rows: Iterable[tuple[str, str]], *, blank_before: bool) -> None:
    """Print names and values, one a line; empty ones are omitted."""
    if blank_before:
        click.echo()
    told = [(f"{name}:", value) for name, value in rows if value]
    width = max([10, *(len(name) for name, _ in told)]) + 1
    for name, value in told:
        click.echo(f"{name:<{width}}{click.style(one_line(value), fg=_COLOURS.get(value))}")


def list_row(record: JobRecord, now: float) -> tuple[str, ...]:
    """Return a job's cells under ``LIST_HEADERS``.

    Args:
        record: the job.
        now: Redis' clock, in seconds since the epoch.
    """
    end = record.last if record.terminal else None
    ran = end.duration if end else None
    if record.state is JobState.RUNNING and record.started_at:
        ran = max(now - record.started_at.timestamp(), 0)
    return (
        record.id,
        record.state,
        _exit_code(end) or "-",
        duration(now - record.created_at.timestamp(), coarse=True),
        "-" if ran is None else duration(ran),
        record.node or "-",
        record.batch or "-",
        _short(record.label),
        _why(record),
    )


def dead_row(record: JobRecord, now: float) -> tuple[str, ...]:
    """Return the cells of a FAILED job under ``DEAD_HEADERS``.

    Args:
        record: the job.
        now: Redis' clock, in seconds since the epoch.
    """
    last = record.last
    return (
        record.id,
        str(last.cause) if last else "-",
        _exit_code(last) or "-",
        str(sum(attempt.number > 0 for attempt in record.attempts)),
        f"{duration(now - record.updated_at.timestamp(), coarse=True)} ago",
        record.node or "-",
        "yes" if record.replayed_by else "-",
        _short(record.label),
        last.reason if last else "",
    )


def fit_row(fit: NodeFit) -> tuple[str, ...]:
    """Return the cells of a node under ``FIT_HEADERS``."""
    generic = "".join(f", {count} {kind}" for kind, count in fit.free_generic.items())
    free = f"{fit.free_memory / 2**20:,.0f} MiB{generic}"
    return (fit.hostname, "yes" if fit.fits else "no", f"{fit.free_cpus:g}", free, "; ".join(fit.reasons), fit.told)


def _short(label: str) -> str:
    return label if len(label) <= _WIDEST_JOB else label[: _WIDEST_JOB - 3] + "..."


def _why(record: JobRecord) -> str:
    """Return the details of a state."""
    last = record.last
    if not record.terminal:
        return f"being cancelled: {record.cancel}" if record.cancel else record.detail
    if last is None or record.state is JobState.SUCCEEDED or last.cause is Cause.EXIT:
        return ""
    return f"{last.cause}: {last.reason}" if last.reason else str(last.cause)


def status_rows(record: JobRecord) -> list[tuple[str, str]]:
    """Return all details of a job."""
    end = record.last if record.terminal else None
    before = record.attempts[:-1] if end else record.attempts
    return [
        ("id", record.id),
        ("state", record.state),
        ("job", record.label),
        ("labels", ", ".join(f"{k}={v}" for k, v in record.spec.labels.items()) if record.spec else ""),
        ("key", record.key),
        ("second start of", record.copy_of),
        ("second start", record.copied_by),
        ("replay of", record.replay_of),
        ("replay", record.replayed_by),
        ("queue", record.queue),
        ("worker", record.holder),
        ("node", record.node or ""),
        ("detail", "" if record.terminal else record.detail),
        ("cancel", record.cancel),
        *((f"attempt {attempt.number}", _attempt_line(attempt)) for attempt in before),
        ("attempt", str(record.attempt or "")),
        ("next", moment(record.due_at)),
        ("not before", moment(record.not_before)),
        ("service", (end.service or "") if end else ""),
        ("exit code", _exit_code(end)),
        ("cause", end.cause if end else ""),
        ("reason", end.reason if end else ""),
        ("decision", end.decision if end else ""),
        ("queued", moment(record.created_at)),
        ("started", moment(end.started_at if end else record.started_at)),
        ("finished", moment(end.finished_at if end else None)),
        ("ran", duration(end.duration) if end and end.duration is not None else ""),
        ("output", end.log_status if end else ""),
    ]


def _attempt_line(attempt: Attempt) -> str:
    """Return how an earlier attempt ended."""
    ran = "" if attempt.duration is None else f"ran {duration(attempt.duration)}"
    code = "" if attempt.exit_code is None else f"exit code {attempt.exit_code}"
    where = f"on {attempt.node}" if attempt.node else ""
    return ", ".join(filter(None, (attempt.cause, code, attempt.reason, where, ran, attempt.decision)))


def _exit_code(end: Attempt | None) -> str:
    return "" if end is None or end.exit_code is None else str(end.exit_code)


def record_json(record: JobRecord, *, show_env: bool = False) -> dict[str, Any]:
    """Return a record as a JSON object.

    Args:
        record: the job.
        show_env: whether the values of variables are shown; they are often secrets.
    """
    data = record.model_dump(mode="json", exclude={"spec"})
    return {**data, "spec": spec_json(record.spec, show_env=show_env) if record.spec else None}


def spec_json(spec: JobSpec, *, show_env: bool = False) -> dict[str, Any]:
    """Return a description as a JSON object.

    Args:
        spec: the description.
        show_env: whether the values of variables are shown; they are often secrets.
    """
    fields = spec.to_wire()
    if "env" in fields and not show_env:
        fields["env"] = dict.fromkeys(fields["env"], "***")
    return fields


def moment(when: datetime | None) -> str:
    """Return a time in this machine's zone, with its offset; empty for none.

    Args:
        when: the time.
    """
    return when.astimezone().isoformat(sep=" ", timespec="milliseconds") if when else ""


def duration(seconds: float, *, coarse: bool = False) -> str:
    """Return a duration in one or two units, such as ``0.4s``, ``12s``, ``3m20s`` or ``2d4h``.

    Args:
        seconds: how long.
        coarse: leave out parts of seconds.
    """
    seconds = max(seconds, 0)
    if seconds < 10 and not coarse:
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def one_line(text: str) -> str:
    """Return one line without control characters: a job's name or an engine's message must not control the terminal.

    Args:
        text: what others wrote.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)
