"""`jaas batch`: list, show, follow, retry and cancel batches."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import EXIT_INTERRUPTED, PlainGroup, Target, for_each, name_unreadable, output_options
from jaas_submit.cli.follow_batch import MAP_CODES, BatchProgress, conclude, print_result, results_of
from jaas_submit.cli.listing import Entry, Table, listing_of, listing_options
from jaas_submit.model.bounds import counted
from jaas_submit.model.states import JobState

if TYPE_CHECKING:
    from jaas_submit.client.batch import Batch
    from jaas_submit.client.client import Client
    from jaas_submit.model.records import BatchRecord

__all__ = ["batch"]


@click.group(cls=PlainGroup)
def batch() -> None:
    """Manage batches: list, status, watch, results, retry, cancel."""


_ids = click.argument("batch_ids", nargs=-1, required=True, metavar="ID...")
_id = click.argument("batch_id", metavar="ID")


def _batch(client: Client, text: str) -> Batch:
    """Return a batch by its id, or by the beginning of that."""
    return client.batch(client.ledger.queries.full_id(text, "batch"))


@batch.command("list")
@listing_options
@output_options
@click.pass_obj
def list_(target: Target, /, as_json: bool, quiet: bool, **options: Any) -> None:
    """List batches, youngest first. Quiet: ids only."""
    listing = listing_of(options, ("state", "name", "id"), as_json=as_json, quiet=quiet)
    narrowed = listing.filters or listing.since is not None or listing.until is not None
    with target.client() as client:

        def read() -> Table:
            found = client.batches(_MOST_SEARCHED if narrowed else listing.limit)
            say = partial(name_unreadable, dict(client.ledger.unreadable))
            now = client.ledger.now()
            records = [record for record in found if listing.takes(record.created_at, _values(record))]
            entries = [
                Entry(record.id, _row(record, now), partial(record.model_dump, mode="json"))
                for record in records[: listing.limit]
            ]
            return Table(_HEADERS, entries, texts=("NAME", "HOW IT STANDS"), dispensable=("AGE", "NAME"), say=say)

        listing.show(read, output.Progress(quiet), "no such batches")


_HEADERS: Final = ("ID", "STATE", "AGE", "JOBS", "NAME", "HOW IT STANDS")
_MOST_SEARCHED: Final = 1000
"""Batches among which --filter, --since and --until look."""


def _values(record: BatchRecord) -> dict[str, str]:
    return {"state": record.state or "OPEN", "name": record.name, "id": record.id}


def _row(record: BatchRecord, now: float) -> tuple[str, ...]:
    counts = ", ".join(f"{count:,} {state.lower()}" for state, count in record.counts.items() if count)
    state = record.state or ("open" if record.total is not None else "being submitted")
    age = output.duration(now - record.created_at.timestamp(), coarse=True)
    return (record.id, state, age, f"{record.size:,}", record.name or "-", counts or "-")


@batch.command()
@_ids
@output_options
@click.pass_obj
def status(target: Target, batch_ids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Show the progress of batches. Quiet: the state only."""
    shown = itertools.count()
    with target.client() as client:

        def show(batch_id: str) -> None:
            record = client.batch(batch_id).status
            if as_json:
                output.print_json(record.model_dump(mode="json"))
            elif quiet:
                click.echo(output.one_line(record.state or "OPEN"))
            else:
                output.print_details(_details(client, record), blank_before=next(shown) > 0)

        return for_each(client, batch_ids, show, "batch")


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
        ("quorum", "all" if record.min_success is None else f"{record.min_success:.0%}"),
        ("failures", f"at most {record.max_failures}" if record.max_failures else ""),
        ("speculation", _speculation(record)),
        ("reduces", record.reduces),
        ("reducer", record.reduced_by),
        ("created", output.moment(record.created_at)),
        ("ended", output.moment(record.ended_at)),
    ]
    if any(record.counts.get(state) for state in (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)):
        rows.append(("why", client.batch(record.id).reasons()))
    return rows


def _speculation(record: BatchRecord) -> str:
    plan = record.speculate
    if plan is None:
        return ""
    return (
        f"at {plan.factor:g} x the median, {output.duration(plan.least, coarse=True)} at least, "
        f"once {plan.after:.0%} have ended; {record.copies:,} run twice now"
    )


@batch.command(epilog=MAP_CODES)
@_id
@output_options
@click.pass_obj
def watch(target: Target, batch_id: str, as_json: bool, quiet: bool) -> int:
    """Follow a batch, and the reduces over it, to the end and show the progress; exit as `jaas map` does."""
    progress = BatchProgress(quiet)
    with target.client() as client:
        followed = _batch(client, batch_id)
        batches = [followed]
        if followed.status.reduced_by:
            batches += [level for level in client.map_reduce_of(followed.id).levels if level.id != followed.id]
        code = 0
        try:
            for one in batches:
                for _ in results_of(client, one, progress):
                    pass
                code = code or conclude(one, progress)
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        if as_json:
            output.print_json(followed.status.model_dump(mode="json"))
    return code


@batch.command()
@_id
@click.option("--failed", is_flag=True, help="Only of jobs that did not succeed.")
@click.option("--reduced", is_flag=True, help="Of the last reduce over the batch instead.")
@output_options
@click.pass_obj
def results(target: Target, batch_id: str, failed: bool, reduced: bool, as_json: bool, quiet: bool) -> None:
    """Print the present results as JSON lines, in the order of the inputs."""
    ended = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)
    with target.client() as client:
        found = _batch(client, batch_id)
        if reduced:
            found = client.map_reduce_of(found.id).levels[-1]
        for record in found.records(*(ended[1:] if failed else ended)):
            print_result(client, client.result(record.id), as_json=as_json)
        if not found.status.done:
            output.Progress(quiet).say(found.status.sentence())


@batch.command()
@_id
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set this variable in the new jobs.")
@click.option("--limit-memory", metavar="SIZE", help="Give them this much memory.")
@click.option("--in-place", is_flag=True, help="In this batch, which then ends anew; reduces over it run again.")
@output_options
@click.pass_obj
def retry(
    target: Target,
    batch_id: str,
    env: tuple[str, ...],
    limit_memory: str | None,
    in_place: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Submit the jobs of a batch that did not succeed again, as a new batch or in place; print its id."""
    changes: dict[str, Any] = {}
    if env:
        changes["env"] = dict(text.partition("=")[::2] for text in env)
    if limit_memory:
        changes["limits"] = {"memory": limit_memory}
    with target.client() as client:
        again = _batch(client, batch_id).retry_failed(in_place=in_place, **changes)
        if as_json:
            output.print_json(again.status.model_dump(mode="json"))
        else:
            click.echo(again.id)
            output.Progress(quiet).say(
                f"{counted(again.status.size, 'job')}; `jaas batch watch {again.id}` follows them"
            )


@batch.command("cancel")
@_ids
@click.option("--reason", default="cancelled with `jaas batch cancel`", show_default=True, help="Kept with the jobs.")
@output_options
@click.pass_obj
def cancel_(target: Target, batch_ids: tuple[str, ...], reason: str, as_json: bool, quiet: bool) -> int:
    """Request the cancellation of all jobs of batches, durably."""
    with target.client() as client:

        def end(batch_id: str) -> None:
            count = client.batch(batch_id).cancel(reason)
            if as_json:
                output.print_json({"id": batch_id, "jobs": count})
            elif not quiet:
                click.echo(f"{batch_id}: {counted(count, 'job')} cancelled")

        return for_each(client, batch_ids, end, "batch")
