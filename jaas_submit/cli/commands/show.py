"""The commands of `jaas` that show what is known of a job: status, logs, and the JSON Schemas."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import EXIT_JAAS, Target, complete_ids, for_each, job_ids_argument, output_options
from jaas_submit.cli.follow_job import follow
from jaas_submit.cli.stored_output import logs_json, logs_note, print_logs

if TYPE_CHECKING:
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
                click.echo(record.state)
            else:
                output.print_details(output.status_rows(record), blank_before=next(shown) > 0)

        return for_each(client, job_ids, show)


@click.command()
@click.argument("job_id", metavar="ID", shell_complete=complete_ids)
@click.option("--attempt", type=click.IntRange(1), help="Which attempt, counted from 1; the last one if not given.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time in front of each line.")
@click.option("-n", "--tail", type=click.IntRange(0), help="Only this many lines from the end.")
@click.option("--stdout", "streams", flag_value="stdout", help="Only what was written to stdout.")
@click.option("--stderr", "streams", flag_value="stderr", help="Only what was written to stderr.")
@click.option("--whole", "must_be_whole", is_flag=True, help="Exit code 125 unless the output is complete.")
@click.option(
    "-f", "--follow", "to_the_end", is_flag=True, help="Wait for the job's end first; there is no live output."
)
@output_options
@click.pass_obj
def logs(
    target: Target,
    job_id: str,
    attempt: int | None,
    timestamps: bool,
    tail: int | None,
    streams: Stream | None,
    must_be_whole: bool,
    to_the_end: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Print a job's output, byte for byte: stdout on stdout, stderr on stderr.

    It is stored when the container has ended. Where bytes are missing, a line on stderr says how many. Exit code 125
    means that the output is unavailable.
    """
    from jaas_submit.model.logs import LogStatus

    progress = output.Progress(quiet)
    with target.client() as client:
        job_id = client.ledger.queries.full_id(job_id)
        if to_the_end:
            follow(client, job_id, progress)
        record = client.ledger.queries.get(job_id)
        if attempt is not None and attempt > max(record.attempt, 1):
            raise click.UsageError(f"--attempt: job {job_id} has {record.attempt} of them, and no attempt {attempt}")
        captured = client.logs(job_id, attempt)
    shown = captured if streams is None else captured.only(streams)
    if tail is not None:
        shown = shown.last(tail)
    if as_json:
        output.print_json({"job_id": job_id, "attempt": attempt or record.attempt, **logs_json(shown)})
    else:
        print_logs(shown, timestamps=timestamps)
    if note := logs_note(captured):
        progress.warn(note)
    whole = captured.status is LogStatus.COMPLETE
    return EXIT_JAAS if captured.status is LogStatus.UNAVAILABLE or (must_be_whole and not whole) else 0


@click.command()
@click.option("--result", "kind", flag_value="result", help="That of a job's result instead.")
@click.option("--batch", "kind", flag_value="batch", help="That of a batch file (`jaas map --file`) instead.")
def schema(kind: str | None) -> None:
    """Print the JSON Schema of a job description: what `jaas.run` takes in its `spec`."""
    from jaas_submit.batch_model.schema import batch_schema, job_schema, result_schema

    made = {"result": result_schema, "batch": batch_schema}.get(kind or "", job_schema)
    output.print_json(made(), indent=2)
