"""The command of `jaas` that replays a trace of jobs on a model cluster."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

import click

from jaas_submit.cli import output

if TYPE_CHECKING:
    from jaas_submit.queues.rules import Rules
    from jaas_submit.simulation.replay import Figures, Replay

__all__ = ["simulate"]

_HEADERS = ("JOBS", "STARTED", "WAIT P50", "P90", "MAX", "SHARE", "MISSED")


@click.command()
@click.argument("trace", type=click.File("r", encoding="utf-8", errors="replace"), metavar="TRACE|-")
@click.option("--nodes", metavar="N|+N|-N", multiple=True, help="N: nodes; +N or -N: changes that.")
@click.option("--cpus", type=click.FloatRange(0, min_open=True), default=4.0, show_default=True, help="Of each node.")
@click.option("--memory", default="16G", show_default=True, help="Of each node.")
@click.option("--rules", "rules_file", type=click.File("rb"), metavar="FILE", help="Rules of queues, in JSON.")
@click.option("--set", "changes", metavar="RULE=VALUE", multiple=True, help="Change: queue.crawl.priority=1.")
@click.option("--start-delay", default="0s", show_default=True, help="From a decision to the running container.")
@click.option("-o", "--output", "form", type=click.Choice(["table", "json"]), default="table")
def simulate(
    trace: IO[str],
    nodes: tuple[str, ...],
    cpus: float,
    memory: str,
    rules_file: IO[bytes] | None,
    changes: tuple[str, ...],
    start_delay: str,
    form: str,
) -> None:
    """Replay a trace of jobs on a model cluster, before and after changes.

    TRACE: lines of JSON ({"submit": 0, "run": 12, "cpus": 1, "queue": "crawl"}), or the Standard Workload Format. The
    decisions are those of the workers. Nothing is submitted, and Redis is not asked.
    """
    from jaas_submit.errors import SpecError
    from jaas_submit.model.bounds import parse_duration, parse_size
    from jaas_submit.simulation.changes import ModelNodes, changed_nodes, changed_rules
    from jaas_submit.simulation.replay import replay
    from jaas_submit.simulation.trace import parse_trace

    try:
        size, delay = parse_size(memory), parse_duration(start_delay)
    except ValueError as error:
        raise SpecError(f"--memory, --start-delay: {error}") from None
    jobs = parse_trace(trace)
    fixed = [one for one in nodes if one[:1] not in {"+", "-"}]
    moved = [one for one in nodes if one[:1] in {"+", "-"}]
    cluster = changed_nodes(ModelNodes(4, cpus, size), fixed)
    rules = _read_rules(rules_file)
    found = {"before": replay(jobs, rules, cluster, start_delay=delay)}
    if changes or moved:
        after = changed_nodes(cluster, moved)
        found["after"] = replay(jobs, changed_rules(rules, changes), after, start_delay=delay)
    if form == "json":
        output.print_json({when: _as_json(one) for when, one in found.items()})
    else:
        _print(found)


def _read_rules(file: IO[bytes] | None) -> Rules:
    from jaas_submit.errors import SpecError
    from jaas_submit.queues.rules import Rules
    from jaas_submit.simulation.changes import read_rules

    if file is None:
        return Rules()
    try:
        said = json.loads(file.read(1024 * 1024))
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise SpecError("--rules: the file must hold one JSON object, of 1 MiB at most")
    return read_rules(said)


def _as_json(found: Replay) -> dict[str, Any]:
    groups = {name: asdict(one) for name, one in found.groups.items()}
    return {"end": found.end, "used": found.used, "groups": groups}


def _print(found: dict[str, Replay]) -> None:
    rows = []
    for name in found["before"].groups:
        for when, one in found.items():
            rows.append((name, when if len(found) > 1 else "", *_row(one.groups[name])))
        recorded = found["before"].groups[name]
        if recorded.recorded_p50 is not None:
            waits = output.duration(recorded.recorded_p50), output.duration(recorded.recorded_p90 or 0.0)
            rows.append((name, "recorded", f"{recorded.jobs}", "", *waits, "", "", ""))
    output.print_table(("OF", "WHEN", *_HEADERS), rows)
    for when, one in found.items():
        click.echo(f"{when}: the last job ends after {output.duration(one.end)}; {one.used:.0%} of the cores in use")


def _row(one: Figures) -> tuple[str, ...]:
    waits = [
        "" if seconds is None else output.duration(seconds) for seconds in (one.wait_p50, one.wait_p90, one.wait_max)
    ]
    return f"{one.jobs}", f"{one.started}", *waits, f"{one.share:.1%}", f"{one.missed}"
