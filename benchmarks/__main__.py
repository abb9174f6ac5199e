"""``python -m benchmarks``: runs the parts that are named, or all, and writes one report. See ``--help``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click

from benchmarks import harness, table
from benchmarks.machine import facts
from tests.support.redis_server import OwnRedis

_File = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("parts", nargs=-1, type=click.Choice(list(harness.PARTS)))
@click.option("--short", is_flag=True, help="Only check that the benchmarks work; the figures mean nothing.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times to measure each.")
@click.option("--jobs", type=click.IntRange(1), default=200, show_default=True, help="Jobs in one measurement.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for report, plots and logs.")
@click.option("--engine", envvar="DOCKER_HOST", required=True, help="Swarm manager; DOCKER_HOST.")
@click.option("--redis", "redis_url", help="A Redis whose content may be lost; left out: one of its own.")
@click.option("--lab", envvar="JAAS_LAB_HOSTS", default="", help="Engines of the three-node lab; JAAS_LAB_HOSTS.")
@click.option("--airflow", type=_File, help="A Python that has apache-airflow-providers-docker: a contestant.")
@click.option("--go-jaas", type=_File, help="The archived Go tool's program: a contestant.")
def main(
    parts: tuple[str, ...],
    short: bool,
    rounds: int,
    jobs: int,
    out: Path | None,
    engine: str,
    redis_url: str | None,
    lab: str,
    airflow: Path | None,
    go_jaas: Path | None,
) -> None:
    """Measure jaas beside what it is measured against; prints Markdown, and writes it with JSON and plots to --out.

    PARTS: which parts; all where none is named.
    """
    out = out or Path(tempfile.mkdtemp(prefix="jaas-bench-"))
    out.mkdir(parents=True, exist_ok=True)
    own = OwnRedis(out / "redis").start() if redis_url is None else None
    options = harness.Options(
        redis_url=own.url if own else str(redis_url),
        engine=engine,
        out=out,
        short=short,
        rounds=1 if short else rounds,
        jobs=min(jobs, 3) if short else jobs,
        lab=tuple(lab.split()),
        airflow=airflow,
        go_jaas=go_jaas,
    )
    try:
        machine = facts(options)
        sections = harness.run(parts or list(harness.PARTS), options)
    finally:
        if own:
            own.stop()
    text = table.as_markdown(machine, sections)
    (out / "report.md").write_text(text)
    (out / "report.json").write_text(json.dumps(table.as_json(machine, sections), indent=1) + "\n")
    click.echo(text)
    harness.say(f"bench: report.md, report.json and plots are in {out}")
    missed = [f"{s.name}: {r.case}, {r.figure}" for s in sections for r in s.rows if r.met is False]
    if missed and not short:
        harness.say(f"bench: targets missed: {'; '.join(missed)}")


if __name__ == "__main__":
    sys.exit(main())
