"""Lists of jobs and batches: which entries, in which form, how wide, and again and again (``--watch``)."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, TypeVar

import click

from jaas_submit.cli import output

__all__ = [
    "Entry",
    "Listing",
    "Table",
    "fitted",
    "listing_of",
    "listing_options",
    "moment_of",
    "short_ids",
    "watch_option",
    "watched",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_WATCH_EVERY_S: Final = 2.0
_SHORT: Final = 8
"""Characters of an id on a terminal, if they are enough to tell the listed ones apart."""

_NARROWEST: Final = 12
"""Characters of a text on a terminal below which another column goes first."""

_GAP: Final = 2
_EMPTY: Final = frozenset({"", "-"})


watch_option: Final = click.option("--watch", is_flag=True, help="List again every 2 seconds, until Ctrl-C.")


def watched(watch: bool, read: Callable[[], T], show: Callable[[T], None]) -> None:
    """Print a list; with ``--watch`` again and again, until Ctrl-C.

    Args:
        watch: whether to; a terminal is cleared before each list.
        read: reads it, and prints nothing: the former list is on the screen meanwhile.
        show: prints what was read.
    """
    try:
        while True:
            found = read()
            if watch and sys.stdout.isatty():
                click.clear()
            show(found)
            if not watch:
                return
            time.sleep(_WATCH_EVERY_S)
    except KeyboardInterrupt:
        if not watch:
            raise


def listing_options(command: F) -> F:
    """Add -n, --since, --until, --filter, -o and --watch to a command that lists."""
    for option in (
        watch_option,
        click.option(
            "-o",
            "--output",
            "form",
            type=click.Choice(["table", "wide", "json", "jsonl", "name"]),
            default="table",
            help="wide: all columns in full; json: one list; jsonl: an object a line; name: ids.",
        ),
        click.option(
            "--filter",
            "filters",
            multiple=True,
            metavar="KEY=VALUE",
            help="Only these; * stands for anything.",
        ),
        click.option("--until", metavar="WHEN", help="Only what was submitted before: 2h ago, or 2026-11-30T08:00."),
        click.option("--since", metavar="WHEN", help="Only what was submitted since: 2h ago, or 2026-11-30."),
        click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Listing:
    """What is to be listed, and in which form.

    Args:
        form: table, wide, json, jsonl or name.
        limit: at most so many.
        since: only what was submitted from then on, in seconds since the epoch; None for no bound.
        until: only what was submitted before.
        filters: pairs of key and pattern.
        watch: whether to list again and again.
    """

    form: str
    limit: int
    since: float | None
    until: float | None
    filters: tuple[tuple[str, str], ...]
    watch: bool

    def takes(self, created_at: datetime, values: Mapping[str, str]) -> bool:
        """Return whether an entry is to be listed.

        Args:
            created_at: when it was submitted.
            values: what the filters compare.
        """
        at = created_at.timestamp()
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return False
        return all(fnmatchcase(values[key], pattern) for key, pattern in self.filters)

    def show(self, read: Callable[[], Table], progress: output.Progress, empty: str) -> None:
        """Print what was read; with ``watch`` again and again, until Ctrl-C.

        Args:
            read: reads the entries, and prints nothing.
            progress: says that there are none.
            empty: that, in words.
        """
        watched(self.watch, read, lambda table: self._print(table, progress, empty))

    def _print(self, table: Table, progress: output.Progress, empty: str) -> None:
        table.say()
        if self.form == "json":
            output.print_json([entry.data() for entry in table.entries], indent=2)
        elif self.form == "jsonl":
            for entry in table.entries:
                output.print_json(entry.data())
        elif self.form == "name":
            for entry in table.entries:
                output.print_lines([entry.id])
        elif not table.entries:
            progress.say(empty)
        else:
            rows = [entry.cells for entry in table.entries]
            if self.form == "wide" or not sys.stdout.isatty():
                output.print_plain(table.headers, rows)
            else:
                width = shutil.get_terminal_size().columns
                output.print_plain(*fitted(table, width))


def listing_of(options: dict[str, Any], keys: Sequence[str], *, as_json: bool, quiet: bool) -> Listing:
    """Return what the options ask for, and take them out.

    Args:
        options: the command's options.
        keys: what ``--filter`` may compare.
        as_json: ``--json``, which is the same as ``-o jsonl``.
        quiet: ``--quiet``, which is the same as ``-o name``.

    Raises:
        click.UsageError: a time or a filter is not valid.
    """
    form = options.pop("form")
    if form == "table":
        form = "jsonl" if as_json else "name" if quiet else "table"
    return Listing(
        form=form,
        limit=options.pop("limit"),
        since=moment_of("--since", options.pop("since")),
        until=moment_of("--until", options.pop("until")),
        filters=tuple(_filter(text, keys) for text in options.pop("filters")),
        watch=options.pop("watch"),
    )


def _filter(text: str, keys: Sequence[str]) -> tuple[str, str]:
    key, equals, pattern = text.partition("=")
    if key not in keys:
        raise click.UsageError(f"--filter: {key[:40]!r} is not known; there are {', '.join(keys)}")
    if not equals:
        raise click.UsageError(f"--filter: write {key}=VALUE, not {text[:80]!r}")
    return key, pattern.upper() if key == "state" else pattern


def moment_of(option: str, text: str | None) -> float | None:
    """Return a time in seconds since the epoch: so long ago, or an ISO date or time of this machine's zone."""
    from jaas_submit.model.fields import parse_duration

    if text is None:
        return None
    try:
        return (datetime.now().astimezone() - timedelta(seconds=parse_duration(text))).timestamp()
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"{option}: {text[:40]!r} is no time; write how long ago (90m, 2h, 1d) or when (2026-11-30T08:00)"
        ) from None


class Entry(NamedTuple):
    """A line of a list."""

    id: str
    cells: tuple[str, ...]
    data: Callable[[], Mapping[str, Any]]
    """Makes the JSON object."""


def _nothing() -> None:
    """Say nothing besides the list."""


class Table(NamedTuple):
    """A list, and how it becomes narrower.

    Args:
        headers: the columns.
        entries: the lines.
        ids: columns of ids, which are shortened on a terminal.
        texts: columns that may be cut.
        dispensable: columns in the order in which they go where there is no room.
        say: says on standard error, before the list, what else was found.
    """

    headers: Sequence[str]
    entries: Sequence[Entry]
    ids: Sequence[str] = ("ID",)
    texts: Sequence[str] = ()
    dispensable: Sequence[str] = ()
    say: Callable[[], None] = _nothing


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Return a short form of each id, long enough to tell them apart.

    Args:
        ids: those that are shown together.
    """
    different = set(ids)
    length = _SHORT
    while len({one[:length] for one in different}) < len(different):
        length += 1
    return {one: one[:length] for one in different}


def fitted(table: Table, width: int) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows that take one line each: empty columns are left out, ids shortened, texts cut.

    Args:
        table: the whole list.
        width: of the terminal, in characters.
    """
    columns = {head: [entry.cells[n] for entry in table.entries] for n, head in enumerate(table.headers)}
    columns = {head: cells for head, cells in columns.items() if head in table.ids[:1] or set(cells) - _EMPTY}
    for head in table.ids:
        if head in columns:
            shorter = short_ids(columns[head])
            columns[head] = [shorter[cell] for cell in columns[head]]
    texts = [head for head in table.texts if head in columns]
    for head in table.dispensable:
        if head in columns and _left(columns, texts, width) < _NARROWEST * len(texts):
            del columns[head]
            texts = [name for name in texts if name != head]
    left = max(_left(columns, texts, width), len(texts))
    for number, head in enumerate(texts):
        most = max(left // (len(texts) - number), 1)
        columns[head] = [_cut(cell, most) for cell in columns[head]]
        left -= _widest(head, columns[head])
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _left(columns: Mapping[str, Sequence[str]], texts: Sequence[str], width: int) -> int:
    """Return how many characters there are for the texts."""
    fixed = sum(_widest(head, cells) for head, cells in columns.items() if head not in texts)
    return width - fixed - _GAP * (len(columns) - 1)


def _widest(head: str, cells: Sequence[str]) -> int:
    return max(len(head), *map(len, cells))


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return text[: most - 3] + "..." if most > 6 else text[:most]
