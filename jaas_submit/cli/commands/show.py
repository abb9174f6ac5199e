"""The commands of `jaas` that show what is known of a job: status, logs, and the JSON Schemas."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import EXIT_JAAS, Target, complete_ids, for_each, job_ids_argument, output_options
from jaas_submit.cli.follow_batch import batch_output
from jaas_submit.cli.follow_job import follow, live_output
from jaas_submit.cli.live_output import EXIT_PIPE, BatchPrinter, OutputPrinter
from jaas_submit.cli.stored_output import logs_json, logs_note, print_logs

if TYPE_CHECKING:
    from jaas_submit.client.client import Client
    from jaas_submit.model.logs import Stream

__all__ = ["logs", "schema", "status"]


@click.command()
@job_ids_argument
@click.option("--show-env", is_flag=True, help="With --json: show the values of variables, which are often secrets.")
@output_options
@click.pass_obj
def status(target: Target, job_ids: tuple[str, ...], show_env: bool, as_json: bool, quiet: bool) -> int:
    """Show all that is known of jobs. Quiet: the state only."""
    shown = itertools.count()
    with target.client() as client:

        def show(job_id: str) -> None:
            record = client.ledger.queries.get(job_id)
            if as_json:
                output.print_json(output.record_json(record, show_env=show_env))
            elif quiet:
                click.echo(output.one_line(record.state))
            else:
                output.print_details(output.status_rows(record), blank_before=next(shown) > 0)

        return for_each(client, job_ids, show)


@click.command()
@click.argument("job_id", metavar="[ID]", required=False, shell_complete=complete_ids)
@click.option(
    "-f", "--follow", "followed", is_flag=True, help="Print the output while it is written, to the job's end."
)
@click.option("--batch", metavar="BATCH", help="Of all jobs of this batch, with the input's number; needs -f.")
@click.option("--attempt", type=click.IntRange(1), help="Which attempt, counted from 1; the last one if not given.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time in front of each line.")
@click.option("-n", "--tail", type=click.IntRange(0), help="Only this many lines from the end, and what follows.")
@click.option(
    "--since", metavar="TIME", help="Only output from this time on (2026-11-30T12:00:00Z), or this long ago (5m)."
)
@click.option("--stdout", "streams", flag_value="stdout", help="Only what was written to stdout.")
@click.option("--stderr", "streams", flag_value="stderr", help="Only what was written to stderr.")
@click.option("--whole", is_flag=True, help="Exit code 125 unless all of the output was printed.")
@output_options
@click.pass_obj
def logs(
    target: Target,
    job_id: str | None,
    followed: bool,
    batch: str | None,
    attempt: int | None,
    timestamps: bool,
    tail: int | None,
    since: str | None,
    streams: Stream | None,
    whole: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Print a job's output, byte for byte: stdout on stdout, stderr on stderr.

    It is stored when the container has ended; before that, -f shows it. Where bytes are missing, a line on stderr says
    how many. Exit code 125 means that the output is unavailable, or that -f fell behind.
    """
    if (job_id is None) == (batch is None):
        raise click.UsageError("give a job's ID, or --batch BATCH")
    if batch and not followed:
        raise click.UsageError("--batch: needs -f")
    if followed and as_json:
        raise click.UsageError("--json: is for output that is stored; leave -f out")
    progress = output.Progress(quiet)
    with target.client() as client:
        begin = None if since is None else _moment(since, client)
        if job_id is None:
            return _follow_batch(client, str(batch), _Selection(streams, begin, tail, timestamps), progress, whole)
        job_id = client.ledger.queries.full_id(job_id)
        _check_attempt(client, job_id, attempt)
        if not followed:
            return _print_stored(
                client, job_id, attempt, _Selection(streams, begin, tail, timestamps), progress, as_json, whole
            )
        printer = OutputPrinter(progress, streams=streams, timestamps=timestamps)
        try:
            follow(client, job_id, progress, live=(live_output(client, job_id, attempt, begin, tail), printer.show))
        except BrokenPipeError:
            return EXIT_PIPE
    return printer.code(EXIT_JAAS if printer.status == "unavailable" else 0, whole=whole)


class _Selection(NamedTuple):
    """What of an output is printed, and how."""

    streams: Stream | None
    since: datetime | None
    tail: int | None
    timestamps: bool


def _print_stored(
    client: Client,
    job_id: str,
    attempt: int | None,
    selection: _Selection,
    progress: output.Progress,
    as_json: bool,
    whole: bool,
) -> int:
    from jaas_submit.model.logs import LogStatus

    captured = client.logs(job_id, attempt)
    shown = captured if selection.streams is None else captured.only(selection.streams)
    if selection.since is not None:
        shown = shown.since(selection.since)
    if selection.tail is not None:
        shown = shown.last(selection.tail)
    if as_json:
        record = client.ledger.queries.get(job_id)
        output.print_json({"job_id": job_id, "attempt": attempt or record.attempt, **logs_json(shown)})
    else:
        print_logs(shown, timestamps=selection.timestamps)
    if note := logs_note(captured):
        progress.warn(note)
    complete = captured.status is LogStatus.COMPLETE
    return EXIT_JAAS if captured.status is LogStatus.UNAVAILABLE or (whole and not complete) else 0


def _follow_batch(client: Client, batch_id: str, selection: _Selection, progress: output.Progress, whole: bool) -> int:
    size = client.batch(batch_id).status.span
    streams, since, tail, timestamps = selection
    printer = BatchPrinter(progress, max(size - 1, 0), streams=streams, timestamps=timestamps)
    try:
        for found in batch_output(client, batch_id, progress, since, tail):
            printer.show(found)
    except BrokenPipeError:
        return EXIT_PIPE
    return printer.code(0, whole=whole)


def _check_attempt(client: Client, job_id: str, attempt: int | None) -> None:
    record = client.ledger.queries.get(job_id)
    if attempt is not None and attempt > max(record.attempt, 1):
        raise click.UsageError(f"--attempt: job {job_id} has {record.attempt} of them, and no attempt {attempt}")


def _moment(text: str, client: Client) -> datetime:
    """Return a time that is given as such, or as how long ago it was."""
    from jaas_submit.model.fields import parse_duration

    try:
        return datetime.fromtimestamp(client.ledger.now() - parse_duration(text), UTC)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"--since: write a time such as 2026-11-30T12:00:00Z, or 5m, not {text[:40]!r}"
        ) from None


@click.command()
@click.option("--result", "kind", flag_value="result", help="That of a job's result instead.")
@click.option("--batch", "kind", flag_value="batch", help="That of a batch file (`jaas map --file`) instead.")
def schema(kind: str | None) -> None:
    """Print the JSON Schema of a job description: what `jaas.run` takes in its `spec`."""
    from jaas_submit.batch_model.schema import batch_schema, job_schema, result_schema

    made = {"result": result_schema, "batch": batch_schema}.get(kind or "", job_schema)
    output.print_json(made(), indent=2)
