"""Following a batch from a shell: progress, results, failures, Ctrl-C. For `jaas map` and `jaas batch`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import EXIT_INTERRUPTED
from jaas_submit.cli.live_output import BatchPrinter
from jaas_submit.errors import JaasError, LedgerUnavailable
from jaas_submit.model.bounds import counted
from jaas_submit.model.states import JobState

if TYPE_CHECKING:
    from datetime import datetime

    from jaas_submit.client.batch import Batch
    from jaas_submit.client.client import Client
    from jaas_submit.client.live_output.batch_output import JobFound
    from jaas_submit.model.records import BatchRecord
    from jaas_submit.model.result import JobResult

__all__ = [
    "EXIT_QUORUM",
    "MAP_CODES",
    "BatchProgress",
    "batch_output",
    "conclude",
    "follow",
    "interrupted",
    "print_result",
    "printing_output",
    "results_of",
    "standing_line",
]

EXIT_QUORUM: Final = 1
_MAX_FAILURES_SHOWN: Final = 10

_OUTPUT_END_S: Final = 10.0
"""Seconds that the rest of the output has to be printed when all jobs have ended."""

MAP_CODES: Final = """\b
Exit codes:
  0    enough jobs succeeded (--min-success), and the reduce, where there is one
  1    fewer did
  2    the command line, the batch file or an input is wrong
  125  Redis is away, or the batch is unknown
  130  interrupted with Ctrl-C"""


class BatchProgress(output.Progress):
    """The progress of a batch: one changing line on a terminal, elsewhere a line now and then; and its failures."""

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet)
        self.mixed = False
        """Whether the jobs' output is printed on stderr, too: no line may change then."""
        self._start = time.monotonic()
        self._first: int | None = None
        self._shown = 0.0
        self._failures = 0

    @property
    def _live(self) -> bool:
        return sys.stderr.isatty() and not self.quiet and not self.mixed

    def standing(self, status: BatchRecord, *, last: bool = False) -> None:
        """Print the progress of a batch, not too often to be read."""
        now = time.monotonic()
        if self._first is None:
            self._first = status.ended
        if self.quiet or (not last and now - self._shown < (0.2 if self._live else 5.0)):
            return
        self._shown = now
        text = f"jaas: {standing_line(status, status.ended - self._first, now - self._start)}"
        click.echo(f"\r\x1b[K{text}" if self._live else text, err=True, nl=not self._live or last)

    def failure(self, result: JobResult) -> None:
        """Print why a job did not succeed."""
        self._failures += 1
        if self._failures <= _MAX_FAILURES_SHOWN:
            if self._live:
                click.echo("\r\x1b[K", err=True, nl=False)
            self.say(f"input {result.index}: {result.sentence()}")
            if self._failures == _MAX_FAILURES_SHOWN:
                self.say("further failures are not shown; `jaas batch results --failed` has them all")


def standing_line(status: BatchRecord, ended: int, seconds: float) -> str:
    """Return the progress of a batch in one line: counts, rate, and estimated end.

    Args:
        status: the batch.
        ended: how many of its jobs have ended since the command's start.
        seconds: since the command's start.
    """
    total = status.size if status.total is None else status.total
    more = "" if status.total is not None else "+"
    parts = [f"{status.ended:,} of {total:,}{more} ended"]
    parts += [f"{count:,} {output.one_line(state.lower())}" for state, count in status.counts.items() if count]
    if ended and seconds > 0 and not status.done:
        rate = ended / seconds
        parts.append(f"{rate:.1f}/s")
        parts.append(f"{output.duration((total - status.ended) / rate, coarse=True)} left")
    return ", ".join(parts)


def follow(client: Client, batches: list[Batch], progress: BatchProgress, *, as_json: bool) -> int:
    """Print results as they arrive, until the last batch has ended; return the exit code."""
    maps, *levels = batches
    for result in results_of(client, maps, progress):
        print_result(client, result, as_json=as_json)
    code = conclude(maps, progress)
    for number, level in enumerate(levels, 1):
        for result in results_of(client, level, progress):
            if number == len(levels):
                print_result(client, result, as_json=as_json)
        code = code or conclude(level, progress)
    return code


def conclude(batch: Batch, progress: BatchProgress) -> int:
    """Print how a batch ended; return the exit code."""
    status = batch.status
    progress.standing(status, last=True)
    if status.state is JobState.SUCCEEDED:
        return 0
    progress.warn(f"{status.sentence()}; {batch.reasons()}")
    return EXIT_QUORUM


def results_of(client: Client, batch: Batch, progress: BatchProgress) -> Iterator[JobResult]:
    """Yield a batch's results as they arrive, also across an outage of Redis; show the progress."""
    from jaas_submit.client.wait import Outage, batch_results

    outage = Outage(lambda: progress.say("Redis does not answer; the jobs go on; trying again"))
    try:
        for result in client.session.run(
            batch_results(client.ledger, batch.id, progress=progress.standing, outage=outage)
        ):
            if not result.ok:
                progress.failure(result)
            yield result
    except LedgerUnavailable as error:
        if not outage.answered:
            raise
        raise LedgerUnavailable(f"{error}; the jobs go on: `jaas batch watch {batch.id}`") from error


def batch_output(
    client: Client, batch_id: str, progress: output.Progress, since: datetime | None = None, tail: int | None = None
) -> Iterator[JobFound]:
    """Yield the output of a batch's jobs while they run, also across an outage of Redis."""
    from jaas_submit.client.live_output.batch_output import BatchOutput
    from jaas_submit.client.wait import Outage

    outage = Outage(lambda: progress.say("Redis does not answer; the jobs go on; trying again"))
    followed = BatchOutput(client.ledger, client.session.feeds(), batch_id, since, tail)
    yield from client.session.run(followed.steps(outage))


@contextmanager
def printing_output(client: Client, batches: list[Batch], progress: BatchProgress) -> Iterator[None]:
    """Print the output of the jobs of batches on stderr, in a thread, while the results are waited for."""
    progress.mixed = True

    def follow_all() -> None:
        try:
            for level, batch in enumerate(batches):
                printer = BatchPrinter(
                    progress, max(batch.status.span - 1, 0), "reduce " if level else "", to_stderr=True
                )
                for found in batch_output(client, batch.id, progress):
                    printer.show(found)
        except JaasError as error:
            progress.warn(f"the output is not shown any more: {error}")
        except BrokenPipeError:
            pass  # nobody reads standard error any more

    # A daemon: after Ctrl-C nobody waits for it.
    thread = threading.Thread(target=follow_all, name="output", daemon=True)
    thread.start()
    yield
    thread.join(_OUTPUT_END_S)


def print_result(client: Client, result: JobResult, *, as_json: bool) -> None:
    """Print a result as a JSON line; all of it with ``as_json``."""
    value = client.fetch(result.output)
    if as_json:
        output.print_json({**result.to_wire(), "output": value})
        return
    data = result.to_wire()
    names = ("index", "job_id", "state", "node", "exit_code", "cause", "reason", "duration")
    output.print_json({**{name: data[name] for name in names}, "output": value})


def interrupted(batches: list[Batch], progress: BatchProgress) -> int:
    """Ask on a terminal whether to cancel the batches, after Ctrl-C; return the exit code."""
    batch_id = batches[0].id
    cancel = False
    if sys.stdin.isatty() and sys.stderr.isatty():
        try:
            click.echo("", err=True)
            cancel = click.prompt("jaas: [l]eave the jobs or [c]ancel them?", default="l", err=True).startswith("c")
        except (KeyboardInterrupt, click.Abort):
            cancel = False
    if cancel:
        count = sum(batch.cancel("cancelled with Ctrl-C") for batch in reversed(batches))
        progress.warn(f"batch {batch_id}: {counted(count, 'job')} cancelled")
    else:
        progress.warn(
            f"batch {batch_id} goes on: `jaas batch watch {batch_id}` follows it again, `jaas batch cancel {batch_id}` "
            "ends it"
        )
    return EXIT_INTERRUPTED
