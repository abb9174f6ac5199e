"""The command `jaas audit`: who did what to which job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import Target, complete_ids, name_unreadable, output_options
from jaas_submit.cli.listing import moment_of, watch_option, watched
from jaas_submit.errors import UnknownJob

if TYPE_CHECKING:
    from jaas_submit.client.client import Client
    from jaas_submit.model.records import AuditEntry

    _Histories = Sequence[tuple[str, Sequence[AuditEntry]]]

__all__ = ["audit"]

_HEADERS: Final = ("TIME", "ID", "WHAT", "BY", "PRODUCER", "TRUST", "DETAIL")


@click.command()
@click.argument("job_id", metavar="[ID]", required=False, shell_complete=complete_ids)
@click.option("--since", metavar="WHEN", help="Only what was done since: 2h ago, or 2026-11-30.")
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=1000, show_default=True, help="Without ID: of so many newest jobs."
)
@watch_option
@output_options
@click.pass_obj
def audit(
    target: Target, job_id: str | None, since: str | None, limit: int, watch: bool, as_json: bool, quiet: bool
) -> None:
    """Show who submitted, cancelled or replayed jobs, and when; with ID of one job or batch.

    Names are `claimed`: a client says them of itself. Where a worker has verified a signature, the producer is
    `verified`.
    """
    first = moment_of("--since", since)
    with target.client() as client:

        def read() -> _Histories:
            return _of(client, job_id) if job_id else _newest(client, limit)

        def show(found: _Histories) -> None:
            name_unreadable(client.ledger.unreadable)
            _show(found, first, as_json=as_json, quiet=quiet)

        watched(watch, read, show)


def _show(found: _Histories, first: float | None, *, as_json: bool, quiet: bool) -> None:
    """Print what was done since a time, the oldest first."""
    entries = sorted(
        ((one, entry) for one, done in found for entry in done if first is None or entry.at.timestamp() >= first),
        key=lambda pair: pair[1].at,
    )
    if as_json:
        for one, entry in entries:
            output.print_json({"id": one, **entry.model_dump(mode="json"), "trust": entry.trust})
    elif entries:
        output.print_table(_HEADERS, [_row(one, entry) for one, entry in entries])
    else:
        output.Progress(quiet).say("nothing was done")


def _of(client: Client, text: str) -> list[tuple[str, tuple[AuditEntry, ...]]]:
    queries = client.ledger.queries
    try:
        record = queries.get(queries.full_id(text))
    except UnknownJob:
        batch = client.ledger.batches.get(queries.full_id(text, "batch"))
        return [(batch.id, batch.history)]
    return [(record.id, record.history)]


def _newest(client: Client, limit: int) -> list[tuple[str, tuple[AuditEntry, ...]]]:
    queries = client.ledger.queries
    batches = [(one.id, one.history) for one in client.ledger.batches.recent(min(limit, 100))]
    return batches + [(one.id, one.history) for one in queries.find(queries.ids(limit=limit))]


def _row(one: str, entry: AuditEntry) -> tuple[str, ...]:
    return (output.moment(entry.at), one, entry.what, entry.by or "-", entry.producer or "-", entry.trust, entry.detail)
