"""The command of `jaas` that shows what jobs used."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from jaas_submit.cli import output
from jaas_submit.cli.common import Target, complete_ids, target_options
from jaas_submit.cli.listing import watch_option, watched

if TYPE_CHECKING:
    from jaas_submit.model.result import JobResult
    from jaas_submit.usage.report import UsageGroup, UsageReport

__all__ = ["usage"]

_HEADERS = ("CPU S", "P50", "P95", "MEMORY P50", "P95", "RESERVED", "READ", "WRITTEN", "RECEIVED", "SENT", "MEASURED")


@click.command()
@click.argument("job_id", metavar="[ID]", required=False, shell_complete=complete_ids)
@click.option("--by", metavar="image|label=NAME|queue|batch", help="Of all jobs that ended, in groups.")
@click.option("--since", metavar="AGO", help="With --by: only jobs that ended in this time; 24h if not given.")
@click.option("-o", "--output", "form", type=click.Choice(["table", "json"]), default="table")
@watch_option
@target_options()
@click.pass_obj
def usage(target: Target, job_id: str | None, by: str | None, since: str | None, form: str, watch: bool) -> None:
    """Show what a job used, or what all jobs used, beside what they reserved.

    A job that was too short to be measured shows nothing. The sums are of those jobs whose records are kept.
    """
    if (job_id is None) == (by is None):
        raise click.UsageError("give a job's ID, or --by image, queue, batch or label=NAME")
    if job_id is not None and since is not None:
        raise click.UsageError("--since: needs --by")
    if watch and by is None:
        raise click.UsageError("--watch: needs --by")
    with target.client() as client:
        if by is not None:
            span = "24h" if since is None else since
            watched(watch, lambda: client.usage(by, span), lambda found: _print_report(found, form))
            return
        result = client.result(client.ledger.queries.full_id(str(job_id)))
    if form == "json":
        used = result.usage and result.usage.model_dump(mode="json")
        times = {"started_at": result.started_at, "finished_at": result.finished_at}
        told = {name: at and at.isoformat() for name, at in times.items()}
        output.print_json({"job_id": result.job_id, **told, "duration": result.duration, "usage": used})
    else:
        output.print_details(_rows(result), blank_before=False)
        _print_series(result)


def _rows(result: JobResult) -> Iterator[tuple[str, str]]:
    """Yield a job's times and what it used, in words."""
    yield "id", result.job_id
    yield "started", output.moment(result.started_at)
    yield "finished", output.moment(result.finished_at)
    yield "ran", "" if result.duration is None else output.duration(result.duration)
    used = result.usage
    if used is None:
        yield "usage", "not measured: it was too short, or its node has no agent"
        return
    cores = f" ({used.cpu_seconds / result.duration:.2f} cores)" if used.cpu_seconds and result.duration else ""
    yield "processor", "" if used.cpu_seconds is None else f"{used.cpu_seconds:.2f} s{cores}"
    yield "reserved cores", "" if used.reserved_cpus is None else f"{used.reserved_cpus:g}"
    yield "peak memory", _size(used.peak_memory)
    yield "reserved memory", _size(used.reserved_memory)
    yield "read", _size(used.read_bytes)
    yield "written", _size(used.written_bytes)
    yield "received", _size(used.received_bytes)
    yield "sent", _size(used.sent_bytes)
    yield "last sample", "" if used.sample_age is None else f"{used.sample_age:.3f} s before the end"


def _print_series(result: JobResult) -> None:
    if result.usage is None or not result.usage.series:
        return
    points, rows = result.usage.series, []
    for before, now in pairwise(points):
        cores = max(now.cpu_seconds - before.cpu_seconds, 0.0) / max(now.seconds - before.seconds, 0.001)
        rows.append((f"{now.seconds:.1f}", f"{now.cpu_seconds:.2f}", f"{cores:.2f}", _size(now.memory)))
    click.echo()
    output.print_table(("SECONDS", "CPU S", "CORES", "MEMORY"), rows)


def _print_report(found: UsageReport, form: str) -> None:
    if form == "json":
        output.print_json(found.model_dump(mode="json"))
        return
    rows = [_row(group) for group in found.groups]
    output.print_table((found.by.upper(), *_HEADERS), rows)
    for group in found.groups:
        for advice in group.advice:
            output.print_lines([f"{group.name}: {advice}"])
    click.echo(
        f"{found.jobs:,} jobs that ended since {output.moment(found.since)} and whose records are kept", err=True
    )


def _row(group: UsageGroup) -> tuple[str, ...]:
    reserved = ", ".join(
        filter(None, (f"{group.reserved_cpus:g} cores" if group.reserved_cpus else "", _size(group.reserved_memory)))
    )
    return (
        group.name,
        f"{group.cpu_seconds:.1f}",
        _number(group.cpu.p50),
        _number(group.cpu.p95),
        _size(group.memory.p50),
        _size(group.memory.p95),
        reserved or "-",
        _size(group.read_bytes),
        _size(group.written_bytes),
        _size(group.received_bytes),
        _size(group.sent_bytes),
        f"{group.measured} of {group.attempts}",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _size(count: float | None) -> str:
    from jaas_submit.placement.placement import size

    return "" if count is None else size(count)
