"""`jaas list`, `explain`, `cancel` and `replay`: managing jobs, one or many at once."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import (
    EXIT_NO,
    Target,
    complete_ids,
    for_each,
    job_ids_argument,
    name_unreadable,
    not_taken,
    output_options,
)
from jaas_submit.cli.follow_job import cancelled
from jaas_submit.cli.job_options import json_input
from jaas_submit.cli.job_selection import Selection, batch_option, cause_option, find_jobs, label_option
from jaas_submit.cli.listing import Entry, Table, listing_of, listing_options
from jaas_submit.errors import UnknownJob
from jaas_submit.model.bounds import counted
from jaas_submit.model.states import JobState

if TYPE_CHECKING:
    from jaas_submit.client.client import Client
    from jaas_submit.model.records import JobRecord

__all__ = ["cancel", "explain", "list_", "replay", "rm"]

_FILTERS: Final = ("state", "cause", "label", "name", "image", "node", "queue", "batch", "exit", "key", "id")
_DEAD_DISPENSABLE: Final = ("REPLAYED", "NODE", "ATTEMPTS", "WHY", "GAVE UP", "EXIT")
_DISPENSABLE: Final = ("NODE", "RAN", "WHY", "EXIT", "AGE", "BATCH")


@click.command("list")
@click.option(
    "--state", type=click.Choice([str(state) for state in JobState], case_sensitive=False), help="Only these."
)
@click.option("--dead", is_flag=True, help="Only jobs that gave up (FAILED), with cause and attempts.")
@cause_option
@label_option
@batch_option
@listing_options
@output_options
@click.pass_obj
def list_(
    target: Target,
    /,
    state: str | None,
    dead: bool,
    cause: str | None,
    label: tuple[str, ...],
    batch: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """List jobs, youngest first; dead ones by when they gave up. Quiet: ids only."""
    if dead and state not in {None, JobState.FAILED}:
        raise click.UsageError(f"--dead: means --state failed, so that --state {state} finds nothing; give one of them")
    wanted = JobState.FAILED if dead else JobState(state) if state else None
    labels = tuple(text.partition("=")[2] for text in options["filters"] if text.startswith("label="))
    options["filters"] = tuple(text for text in options["filters"] if not text.startswith("label="))
    listing = listing_of(options, _FILTERS, as_json=as_json, quiet=quiet)
    # The environment names the queue for new jobs; jobs of other queues are to be seen, too.
    queue = target.queue if "queue" in target.named else None
    progress = output.Progress(quiet)
    with target.client() as client:
        choice = Selection((*label, *labels), cause, batch, queue, listing).checked(client)

        def read() -> Table:
            records = list(find_jobs(client, wanted, choice, listing.limit))
            unreadable = dict(client.ledger.unreadable)
            waits = not_taken(client, records) if listing.form in {"table", "wide"} else []

            def say() -> None:
                name_unreadable(unreadable)
                for sentence in waits:
                    progress.say_once(sentence)

            return _table(records, client.ledger.now(), dead=dead)._replace(say=say)

        listing.show(read, progress, "no such jobs")


def _table(records: Sequence[JobRecord], now: float, *, dead: bool) -> Table:
    headers, row = (output.DEAD_HEADERS, output.dead_row) if dead else (output.LIST_HEADERS, output.list_row)
    return Table(
        headers,
        [Entry(record.id, row(record, now), partial(output.record_json, record)) for record in records],
        ids=("ID", "BATCH"),
        texts=("JOB", "WHY"),
        dispensable=_DEAD_DISPENSABLE if dead else _DISPENSABLE,
    )


@click.command()
@job_ids_argument
@output_options
@click.pass_obj
def explain(target: Target, job_ids: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Say in plain words why jobs wait, or why they ended, and what may help. Quiet: the first sentence only."""
    shown = itertools.count()
    with target.client() as client:

        def tell(job_id: str) -> None:
            told = client.explain(job_id)
            if as_json:
                output.print_json(told.model_dump(mode="json"))
                return
            if len(job_ids) > 1:
                click.echo(("\n" if next(shown) else "") + f"job {job_id}")
            output.print_lines(told.sentences[:1] if quiet else told.sentences)
            if not quiet and told.state is JobState.FAILED and _NO_CONTAINER not in told.sentences:
                click.echo(f"`jaas logs {job_id}` prints its output.")

        return for_each(client, job_ids, tell)


_NO_CONTAINER: Final = "No container was seen to start."
"""What `explain` says of a job that cannot have any output."""

_IN_THE_SWARM: Final = frozenset({JobState.LAUNCHING, JobState.PENDING, JobState.RUNNING})

_ids_or_selection = click.argument("job_ids", nargs=-1, metavar="[ID...]", shell_complete=complete_ids)


@click.command()
@_ids_or_selection
@label_option
@click.option("--batch", metavar="ID", help="All jobs of this batch, and those still to be submitted to it.")
@click.option("--all", "everything", is_flag=True, help="All jobs that have not ended; asks first, on a terminal.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", default="cancelled with `jaas cancel`", show_default=True, help="Kept with the job.")
@output_options
@click.pass_obj
def cancel(
    target: Target,
    job_ids: tuple[str, ...],
    label: tuple[str, ...],
    batch: str | None,
    everything: bool,
    yes: bool,
    reason: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Request the cancellation of jobs, durably: it is carried out even if no worker is up now.

    Give ids, or choose by --label (which may be repeated; all must match), --batch, or --all.
    """
    if bool(job_ids) + bool(label) + (batch is not None) + everything != 1:
        raise click.UsageError("give ids, or --label, or --batch, or --all")
    progress = output.Progress(quiet)
    with target.client() as client:
        if batch is not None:
            batch = client.ledger.queries.full_id(batch, "batch")
            count = client.batch(batch).cancel(reason)
            if as_json:
                output.print_json({"id": batch, "jobs": count})
            elif not quiet:
                click.echo(f"batch {batch}: {counted(count, 'job')} cancelled")
            return 0
        chosen = list(job_ids)
        if not chosen:
            wanted = Selection(label)
            chosen = [record.id for record in client.active() if wanted.matches(record)]
            if not chosen:
                progress.say("no such jobs")
                return 0
        if (
            everything
            and not yes
            and not _agreed(f"cancel {counted(len(chosen), 'job')}: all that have not ended, of {client!r}?")
        ):
            progress.warn("nothing was cancelled")
            return EXIT_NO

        in_the_swarm = 0

        def end(job_id: str) -> None:
            nonlocal in_the_swarm
            before = client.cancel(job_id, reason)
            in_the_swarm += before in _IN_THE_SWARM
            if as_json:
                output.print_json({"id": job_id, "state_before": before})
            elif not quiet:
                click.echo(f"{job_id}: {cancelled(before)}")

        code = for_each(client, tuple(chosen), end)
        if in_the_swarm and not client.ledger.queries.workers():
            progress.warn("no worker is alive: containers run on until one is back and stops them")
        return code


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("--all: this is no terminal to ask on; say --yes, too")
    return click.confirm(f"jaas: {question}", err=True)


@click.command()
@job_ids_argument
@click.option("-f", "--force", is_flag=True, help="Ignore jobs that are not known.")
@output_options
@click.pass_obj
def rm(target: Target, job_ids: tuple[str, ...], force: bool, as_json: bool, quiet: bool) -> int:
    """Forget jobs that have ended: their records and output are deleted.

    Without it they are kept for some days (JAAS_RECORD_TTL). A job's container and service are gone anyway.
    """
    with target.client() as client:

        def forget(job_id: str) -> None:
            try:
                client.forget(job_id)
            except UnknownJob:
                if not force:
                    raise
                return
            if as_json:
                output.print_json({"id": job_id})
            elif not quiet:
                click.echo(job_id)

        return for_each(client, job_ids, forget)


# -- replay -----------------------------------------------------------------------------------------------------------

# What --set takes: fields, short names of some, and what is followed by a name of the user's.
SETTABLE: Final = (
    *("image", "limits.memory", "limits.cpus", "reservations.memory", "reservations.cpus"),
    *("run_timeout", "pending_timeout", "deadline", "expires", "on_node_lost", "lost_after"),
    *("retry.max_attempts", "retry.max_cluster_retries", "user", "registry", "stop_grace"),
)
SHORT: Final = {"memory": "limits.memory", "cpus": "limits.cpus"}
NAMED: Final = ("env.", "labels.")


def _changes(settings: Sequence[str]) -> dict[str, Any]:
    """Return the fields that ``--set FIELD=VALUE`` replaces."""
    changes: dict[str, Any] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        field = SHORT.get(field, field)
        if not equals:
            raise click.UsageError(f"--set: write FIELD=VALUE, such as memory=2G, not {setting[:80]!r}")
        if field not in SETTABLE and not field.startswith(NAMED):
            known = ", ".join((*SHORT, *SETTABLE, "env.NAME", "labels.NAME"))
            raise click.UsageError(f"--set: {field[:40]!r} cannot be set; there are {known}")
        name, dot, entry = field.partition(".")
        if dot:
            changes.setdefault(name, {})[entry] = value
        else:
            changes[name] = value
    return changes


@click.command()
@_ids_or_selection
@cause_option
@label_option
@batch_option
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change the description: memory=2G, image=app:2, env.NAME=value, run_timeout=1h, ... may be repeated.",
)
@click.option("--input", metavar="JSON|@FILE", help="Give it this input instead.")
@click.option("--in-place", is_flag=True, help="In its batch, which then ends anew; reduces over it run again.")
@output_options
@click.pass_obj
def replay(
    target: Target,
    job_ids: tuple[str, ...],
    cause: str | None,
    label: tuple[str, ...],
    batch: str | None,
    settings: tuple[str, ...],
    input: str | None,
    in_place: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run ended jobs again, linked to the originals; print the new ids.

    Give ids, or choose among the dead ones (FAILED) by --cause, --label and --batch; those that have already been
    replayed are then skipped. `jaas batch retry` makes a new batch of them instead.

    \b
      jaas replay --cause oom --set memory=2G
      jaas replay --label team=web --set env.API=https://...
      jaas replay --in-place --input '{"n": 7}' ID
    """
    from jaas_submit.client.replay import replayed_spec

    wanted = Selection(label, cause, batch)
    if bool(job_ids) == (wanted != Selection()):
        raise click.UsageError("give ids, or choose with --cause, --label and --batch")
    changes = _changes(settings)
    if input is not None:
        changes["input"] = json_input(input)
    progress = output.Progress(quiet)
    with target.client() as client:
        chosen = list(dict.fromkeys(client.ledger.queries.full_id(job_id) for job_id in job_ids))
        if chosen:
            records = client.ledger.queries.find(chosen)
        else:
            wanted = wanted.checked(client)
            found = find_jobs(client, JobState.FAILED, wanted)
            records = [r for r in found if r.spec and not (r.replayed_by or r.left)]
            records.reverse()  # in the order in which they failed
            chosen = [record.id for record in records]
            if not chosen:
                progress.say("no such jobs, or all of them have been replayed")
        for record in records:  # all of them, before the first one is enqueued
            replayed_spec(client.session, record, changes)
        if in_place:
            return _in_place(client, [record.id for record in records], changes, progress, as_json)
        return for_each(client, tuple(chosen), _replayer(client, changes, progress, as_json))


def _in_place(
    client: Client, job_ids: Sequence[str], changes: dict[str, Any], progress: output.Progress, as_json: bool
) -> int:
    from jaas_submit.client.replay import replay_in_place

    # All at once: the end of the first must not stop their batch before the last one is in its place.
    for job_id, made in replay_in_place(client.session, job_ids, changes).items():
        if as_json:
            output.print_json({"id": made, "replay_of": job_id})
        else:
            click.echo(made)
            progress.say(f"job {made} has the place of job {job_id} in its batch")
    return 0


def _replayer(
    client: Client, changes: dict[str, Any], progress: output.Progress, as_json: bool
) -> Callable[[str], None]:
    def again(job_id: str) -> None:
        made = client.replay(job_id, **changes).id
        if as_json:
            output.print_json({"id": made, "replay_of": job_id})
        else:
            click.echo(made)
            progress.say(f"job {made} repeats job {job_id}")

    return again
