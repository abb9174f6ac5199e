"""`jaas map` and `jaas batch`: many jobs from a shell, with live progress and results as JSON lines."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from jaas_submit import cli_render as render
from jaas_submit.cli_frame import EXIT_INTERRUPTED, Where, for_each, output_options
from jaas_submit.cli_options import job_options, order_of
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.goflags import GoCommand
from jaas_submit.states import JobState

if TYPE_CHECKING:
    from jaas_submit.batch import Batch
    from jaas_submit.cli_batchfile import BatchFile
    from jaas_submit.client import Client
    from jaas_submit.records import BatchRecord, JobResult
    from jaas_submit.spec import JobSpec

__all__ = ["EXIT_QUORUM", "batch", "map_", "standing_line"]

EXIT_QUORUM: Final = 1
_MOST_FAILURES: Final = 10
_PATIENCE: Final = 120.0
_PAUSE: Final = 2.0

_MAP_CODES: Final = """\b
Exit codes:
  0    enough jobs succeeded (--min-success), and the reduce, where there is one
  1    fewer did
  2    the command line, the batch file or an input is wrong
  125  Redis is away, or the batch is unknown
  130  interrupted with Ctrl-C"""


class _Progress(render.Progress):
    """The standing of a batch: one line that changes on a terminal, else a line now and then; and its failures."""

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet)
        self._live = sys.stderr.isatty() and not quiet
        self._start = time.monotonic()
        self._first: int | None = None
        self._shown = 0.0
        self._failures = 0

    def standing(self, status: BatchRecord, *, last: bool = False) -> None:
        """Print how a batch stands; not more often than can be read."""
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
        if self._failures <= _MOST_FAILURES:
            if self._live:
                click.echo("\r\x1b[K", err=True, nl=False)
            self.say(f"input {result.index}: {result.sentence()}")
            if self._failures == _MOST_FAILURES:
                self.say("further failures are not shown; `jaas batch results --failed` has them all")


def standing_line(status: BatchRecord, ended: int, seconds: float) -> str:
    """Return in one line how a batch stands: counts, rate, and when it will have ended.

    Args:
        status: the batch.
        ended: how many of its jobs have ended while we looked.
        seconds: for how long we have looked.
    """
    total = status.size if status.total is None else status.total
    more = "" if status.total is not None else "+"
    parts = [f"{status.ended:,} of {total:,}{more} ended"]
    parts += [f"{count:,} {state.lower()}" for state, count in status.counts.items() if count]
    if ended and seconds > 0 and not status.done:
        rate = ended / seconds
        parts.append(f"{rate:.1f}/s")
        parts.append(f"{render.duration((total - status.ended) / rate, coarse=True)} left")
    return ", ".join(parts)


@click.command("map", cls=GoCommand, context_settings={"allow_interspersed_args": False}, epilog=_MAP_CODES)
@click.option(
    "--inputs",
    metavar="FILE|-",
    help="One job for each: lines of text, or JSON lines (.jsonl), CSV (.csv), JSON (.json).",
)
@click.option(
    "--format", "kind", type=click.Choice(["lines", "jsonl", "csv", "json"]), help="If the name does not tell."
)
@click.option("--file", "batch_file", metavar="FILE", help="Batch file (YAML or JSON) instead of all this.")
@click.option("--as-file/--no-as-file", default=None, help="Each input as the file that JAAS_INPUT names.")
@click.option("--max-parallel", type=click.IntRange(1), help="So many of the jobs at once.")
@click.option("--min-success", type=click.FloatRange(0, 1), help="Part of the jobs that must succeed; 1 if not given.")
@click.option("--key", help="The same key once more adds only what is missing, after a crash for instance.")
@click.option("--reduce-image", metavar="IMAGE", help="A job of this image gets all outputs, when enough are there.")
@click.option("--reduce-command", metavar="TEXT", help="Its entry point and arguments, split as a shell does.")
@click.option("--fan-in", type=click.IntRange(2), help="Outputs that one reduce job takes; 256 if not given.")
@click.option("--detach", is_flag=True, help="Print the batch's id and do not wait.")
@job_options
@output_options
@click.pass_obj
def map_(
    where: Where,
    /,
    words: tuple[str, ...],
    inputs: str | None,
    kind: str | None,
    batch_file: str | None,
    detach: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Run one job for each input; print the results as JSON lines while they arrive.

    {item}, {item.name} and {index} in command and environment are filled in. Where they name no item, each job finds
    its input in the file that JAAS_INPUT names.

    \b
      jaas map --inputs urls.txt --network demo -e url={item} --output json href-counter
      jaas map --inputs staff.csv --image alpine -- echo {item.name}
      seq 100 | jaas map --inputs - --max-parallel 10 alpine -- sh -c 'echo $(({item} * 2))'

    Ctrl-C on a terminal asks whether to leave or to cancel the batch, and elsewhere leaves it.
    """
    progress = _Progress(quiet)
    plan = _plan(words, options, inputs, kind, batch_file, progress)
    with where.client() as client:
        progress.say(f"batch {plan.batch_id(client)}")
        batch, levels = _submit(client, plan, progress)
        if detach:
            click.echo(batch.id)
            return 0
        try:
            return _follow(client, [batch, *levels], progress, as_json=as_json)
        except KeyboardInterrupt:
            return _interrupted([batch, *levels], progress)


class _Plan:
    """What `jaas map` is to submit."""

    def __init__(self, file: BatchFile, spec: JobSpec, reduce: JobSpec | None, inputs: Iterator[Any]) -> None:
        self.file = file
        self.spec = spec
        self.reduce = reduce
        self.inputs = inputs
        # A key of its own, so that the batch's id is known before the first job is submitted.
        self.key = file.key or f"map-{uuid.uuid4()}"

    def batch_id(self, client: Client) -> str:
        from jaas_submit.batch import batch_id_of

        return batch_id_of(self.key, client.ledger.prefix)


def _plan(
    words: tuple[str, ...],
    options: dict[str, Any],
    inputs: str | None,
    kind: str | None,
    batch_file: str | None,
    progress: _Progress,
) -> _Plan:
    from jaas_submit.cli_batchfile import BatchFile, read_batch_file, read_inputs
    from jaas_submit.spec import JobSpec

    own = {name: options.pop(name) for name in ("as_file", "max_parallel", "min_success", "key", "fan_in")}
    reduce_image, reduce_command = options.pop("reduce_image"), options.pop("reduce_command")
    given = {name: value for name, value in own.items() if value is not None}
    if options["input"]:
        raise click.UsageError("--input is for one job; give --inputs FILE")
    if batch_file:
        if words or options["image"] or reduce_image:
            raise click.UsageError("--file names the jobs already; leave the image and the words out")
        read = read_batch_file(batch_file)
        file = read.file.model_copy(update=given)
        source = read_inputs(inputs, kind) if inputs else read.inputs()
        return _Plan(file, read.spec, read.reduce, source)
    if not inputs:
        raise click.UsageError("--inputs FILE (or - for standard input) is missing; or give --file BATCHFILE")
    order = order_of(words, options)
    for note in order.notes:
        progress.warn(note)
    reduce = None
    if reduce_image:
        fields: dict[str, Any] = {
            "image": reduce_image,
            "output": "json" if order.spec.output == "none" else order.spec.output,
        }
        if reduce_command:
            import shlex

            fields["entrypoint"] = shlex.split(reduce_command)
        reduce = JobSpec.parse({**fields, "networks": order.spec.networks, "name": "reduce"})
    elif reduce_command or own["fan_in"]:
        raise click.UsageError("--reduce-command and --fan-in need --reduce-image")
    return _Plan(BatchFile(name=order.spec.name or "", **given), order.spec, reduce, read_inputs(inputs, kind))


def _submit(client: Client, plan: _Plan, progress: _Progress) -> tuple[Batch, list[Batch]]:
    from jaas_submit.errors import UnknownJob

    file = plan.file
    fields: dict[str, Any] = {
        "name": file.name,
        "max_parallel": file.max_parallel,
        "min_success": file.min_success,
        "key": plan.key,
        "as_file": file.as_file,
    }
    try:
        if plan.reduce is None:
            return client.map(plan.spec, plan.inputs, **fields), []
        made = client.map_reduce(plan.spec, plan.inputs, plan.reduce, fan_in=file.fan_in, **fields)
    except BaseException as error:
        # What was submitted before a bad input shall not run on as half a batch, unless it can be gone on with.
        batch = client.batch(plan.batch_id(client))
        if file.key:
            progress.warn(f"batch {batch.id} is not complete; the same command, with the same key, goes on with it")
        elif not isinstance(error, LedgerUnavailable):
            try:
                batch.cancel("its submission failed")
            except UnknownJob:  # nothing had been written
                pass
            else:
                progress.warn(f"batch {batch.id} is not complete and has been cancelled")
        raise
    return made.maps, made.levels


def _follow(client: Client, batches: list[Batch], progress: _Progress, *, as_json: bool) -> int:
    """Print results as they arrive, until the last batch has ended; return the exit code."""
    maps, *levels = batches
    for result in _results(maps, progress):
        _print_result(client, result, as_json=as_json)
    code = _ended(maps, progress)
    for number, level in enumerate(levels, 1):
        for result in _results(level, progress):
            if number == len(levels):
                _print_result(client, result, as_json=as_json)
        code = code or _ended(level, progress)
    return code


def _ended(batch: Batch, progress: _Progress) -> int:
    status = batch.status
    progress.standing(status, last=True)
    if status.state is JobState.SUCCEEDED:
        return 0
    progress.warn(f"{status.sentence()}; {batch.reasons()}")
    return EXIT_QUORUM


def _results(batch: Batch, progress: _Progress, seen: int = 0) -> Iterator[JobResult]:
    """Yield a batch's results as they arrive, also past a Redis that is away for a while; show how it stands."""
    away_since: float | None = None
    ticks = 0
    while True:
        try:
            for result in batch.results(offset=seen, tick=lambda: progress.standing(batch.status)):
                away_since, seen, ticks = None, seen + 1, ticks + 1
                if not result.ok:
                    progress.failure(result)
                yield result
        except LedgerUnavailable as error:
            if away_since is None:
                if not ticks:
                    raise
                away_since = time.monotonic()
                progress.say("Redis does not answer; the jobs go on; trying again")
            elif time.monotonic() - away_since > _PATIENCE:
                raise LedgerUnavailable(f"{error}; the jobs go on: `jaas batch watch {batch.id}`") from error
            time.sleep(_PAUSE)
        else:
            return


def _print_result(client: Client, result: JobResult, *, as_json: bool) -> None:
    output = client.fetch(result.output)
    if as_json:
        render.print_json({**result.to_wire(), "output": output})
        return
    data = result.to_wire()
    names = ("index", "job_id", "state", "exit_code", "cause", "reason", "duration")
    render.print_json({**{name: data[name] for name in names}, "output": output})


def _interrupted(batches: list[Batch], progress: _Progress) -> int:
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
        progress.warn(f"batch {batch_id}: {count:,} jobs cancelled")
    else:
        progress.warn(
            f"batch {batch_id} goes on: `jaas batch watch {batch_id}` follows it again, `jaas batch cancel {batch_id}` "
            "ends it"
        )
    return EXIT_INTERRUPTED


# -- jaas batch -------------------------------------------------------------------------------------------------------


@click.group()
def batch() -> None:
    """See to batches: list, status, watch, results, retry, cancel."""


_ids = click.argument("batch_ids", nargs=-1, required=True, metavar="ID...")
_id = click.argument("batch_id", metavar="ID")


@batch.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@output_options
@click.pass_obj
def list_(where: Where, limit: int, as_json: bool, quiet: bool) -> None:
    """List batches, youngest first. Quiet: ids only."""
    with where.client() as client:
        records = client.batches(limit)
        now = client.ledger.now()
    if as_json:
        for record in records:
            render.print_json(record.model_dump(mode="json"))
    elif quiet:
        for record in records:
            click.echo(record.id)
    elif records:
        rows = [_row(record, now) for record in records]
        render.print_table(("ID", "STATE", "AGE", "JOBS", "NAME", "HOW IT STANDS"), rows)
    else:
        render.Progress(quiet).say("no such batches")


def _row(record: BatchRecord, now: float) -> tuple[str, ...]:
    counts = ", ".join(f"{count:,} {state.lower()}" for state, count in record.counts.items() if count)
    state = record.state or ("open" if record.total is not None else "being submitted")
    age = render.duration(now - record.created_at.timestamp(), coarse=True)
    return (record.id, state, age, f"{record.size:,}", record.name or "-", counts or "-")


@batch.command()
@_ids
@output_options
@click.pass_obj
def status(where: Where, batch_ids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Show how batches stand. Quiet: the state only."""
    with where.client() as client:

        def show(batch_id: str) -> None:
            record = client.batch(batch_id).status
            if as_json:
                render.print_json(record.model_dump(mode="json"))
            elif quiet:
                click.echo(record.state or "OPEN")
            else:
                render.print_details(_details(client, record), blank_before=batch_id != batch_ids[0])

        return for_each(batch_ids, show)


def _details(client: Client, record: BatchRecord) -> list[tuple[str, str]]:
    rows = [
        ("id", record.id),
        ("name", record.name),
        ("state", record.state or "open"),
        ("reason", record.reason),
        ("cancelled", record.cancelled),
        ("jobs", f"{record.size:,}" + ("" if record.total is not None else ", more are being submitted")),
        *((state.lower(), f"{count:,}") for state, count in record.counts.items() if count),
        ("parallel", f"at most {record.max_parallel:,}" if record.max_parallel else ""),
        ("quorum", f"{record.min_success:.0%}"),
        ("reduces", record.reduces),
        ("created", record.created_at.isoformat(sep=" ", timespec="seconds")),
        ("ended", record.ended_at.isoformat(sep=" ", timespec="seconds") if record.ended_at else ""),
    ]
    if any(record.counts.get(state) for state in (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)):
        rows.append(("why", client.batch(record.id).reasons()))
    return rows


@batch.command(epilog=_MAP_CODES)
@_id
@output_options
@click.pass_obj
def watch(where: Where, batch_id: str, as_json: bool, quiet: bool) -> int:
    """Follow a batch to its end, showing how it stands; end as `jaas map` does."""
    progress = _Progress(quiet)
    with where.client() as client:
        followed = client.batch(batch_id)
        try:
            for _ in _results(followed, progress):
                pass
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        code = _ended(followed, progress)
        if as_json:
            render.print_json(followed.status.model_dump(mode="json"))
    return code


@batch.command()
@_id
@click.option("--failed", is_flag=True, help="Only of jobs that did not succeed.")
@output_options
@click.pass_obj
def results(where: Where, batch_id: str, failed: bool, as_json: bool, quiet: bool) -> None:
    """Print the results that there are so far, as JSON lines in the order of the inputs."""
    ended = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)
    with where.client() as client:
        found = client.batch(batch_id)
        for record in found.records(*(ended[1:] if failed else ended)):
            _print_result(client, client.result(record.id), as_json=as_json)
        if not found.status.done:
            render.Progress(quiet).say(found.status.sentence())


@batch.command()
@_id
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set this variable in the new jobs.")
@click.option("--limit-memory", metavar="SIZE", help="Give them this much memory.")
@output_options
@click.pass_obj
def retry(
    where: Where, batch_id: str, env: tuple[str, ...], limit_memory: str | None, as_json: bool, quiet: bool
) -> None:
    """Submit the jobs of a batch that did not succeed once more, as a new batch; print its id."""
    changes: dict[str, Any] = {}
    if env:
        changes["env"] = dict(text.partition("=")[::2] for text in env)
    if limit_memory:
        changes["limits"] = {"memory": limit_memory}
    with where.client() as client:
        again = client.batch(batch_id).retry_failed(**changes)
        if as_json:
            render.print_json(again.status.model_dump(mode="json"))
        else:
            click.echo(again.id)
            render.Progress(quiet).say(f"{again.status.size:,} jobs; `jaas batch watch {again.id}` follows them")


@batch.command("cancel")
@_ids
@click.option("--reason", default="cancelled with `jaas batch cancel`", show_default=True, help="Kept with the jobs.")
@output_options
@click.pass_obj
def cancel_(where: Where, batch_ids: tuple[str, ...], reason: str, as_json: bool, quiet: bool) -> int:
    """Ask for the end of all jobs of batches, durably."""
    with where.client() as client:

        def end(batch_id: str) -> None:
            count = client.batch(batch_id).cancel(reason)
            if as_json:
                render.print_json({"id": batch_id, "jobs": count})
            elif not quiet:
                click.echo(f"{batch_id}: {count:,} jobs cancelled")

        return for_each(batch_ids, end)
