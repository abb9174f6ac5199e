"""The command line of the fuzzer: many cases until the time is over, or one case again."""

from __future__ import annotations

import contextlib
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from tests.fuzz import ledger, pure, worker
from tests.fuzz.cases import Failure, summary
from tests.support.redis_server import OwnRedis

Run = Callable[[int, int, int], list[Failure]]
"""Runs cases of a level: by seed, first number, and how many."""

_MAX_LISTED_WHOLE: Final = {pure.LEVEL: 500, ledger.LEVEL: 200, worker.LEVEL: worker.BATCH}
"""Cases of each level in one turn, which take about as long as those of another."""


@contextlib.contextmanager
def _level(name: str, folder: Path) -> Iterator[Run]:
    if name == pure.LEVEL:
        yield pure.run
    elif name == ledger.LEVEL:
        server = OwnRedis(folder / "ledger").start()
        level = ledger.LedgerLevel(server.url)
        try:
            yield level.run
        finally:
            level.close()
            server.kill()
    else:
        with worker.WorkerLevel.made(folder) as made:
            yield made.run


def _parse(case: str) -> tuple[str, int, int]:
    level, _, numbers = case.partition(":")
    first, _, count = numbers.partition("+")
    if level not in _MAX_LISTED_WHOLE or not first.isdigit() or not (count or "1").isdigit():
        raise click.UsageError("--case: give LEVEL:NUMBER or LEVEL:NUMBER+COUNT, as a failure is named")
    return level, int(first), int(count or 1)


def _said(failures: list[Failure]) -> list[Failure]:
    for one in failures:
        click.echo(f"{one}\n")
    return failures


def _again(case: str, seed: int, folder: Path) -> list[Failure]:
    """Run the cases that ``--case`` names; return what failed."""
    level, first, count = _parse(case)
    turn = _MAX_LISTED_WHOLE[level]
    with _level(level, folder) as run:
        starts = range(first, first + count, turn)
        return [one for start in starts for one in _said(run(seed, start, min(turn, first + count - start)))]


def _fuzz(levels: list[str], minutes: float, seed: int, folder: Path) -> list[Failure]:
    """Run the levels by turns until the time is over; return what failed."""
    found: list[Failure] = []
    done = dict.fromkeys(levels, 0)
    until = time.monotonic() + 60 * minutes
    with contextlib.ExitStack() as stack:
        runs = {name: stack.enter_context(_level(name, folder)) for name in levels}
        while time.monotonic() < until:
            for name, run in runs.items():
                found += _said(run(seed, done[name], _MAX_LISTED_WHOLE[name]))
                done[name] += _MAX_LISTED_WHOLE[name]
    click.echo("fuzz: " + ", ".join(f"{count:,} cases of level {name}" for name, count in done.items()))
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", type=float, default=1.0, show_default=True, help="How long; the last turns are completed.")
@click.option("--seed", type=int, default=None, help="The same seed draws the same cases.  [default: by chance]")
@click.option("--level", "levels", type=click.Choice(list(_MAX_LISTED_WHOLE)), multiple=True, help="Only these levels.")
@click.option("--case", "case", default="", help="Only this case, such as ledger:17, or these, such as worker:40+20.")
def main(minutes: float, seed: int | None, levels: tuple[str, ...], case: str) -> None:
    """Feed jaas with mutated messages, records and notices; exit code 1 when it broke a promise."""
    seed = secrets.randbelow(10**6) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="jaas-fuzz-") as folder:
        if case:
            found = _again(case, seed, Path(folder))
        else:
            click.echo(f"fuzz: seed {seed}, {minutes:g} minutes")
            found = _fuzz(list(levels or _MAX_LISTED_WHOLE), minutes, seed, Path(folder))
    if found:
        click.echo(summary(found))
    click.echo(f"fuzz: {len(found)} failures" if found else "fuzz: no failures")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
