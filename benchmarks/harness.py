"""What a part of the benchmarks is, and the report that all parts make together."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.stats import percentile

__all__ = ["PARTS", "Options", "Part", "Row", "Section", "Target", "load", "run", "say"]

PARTS: dict[str, str] = {
    "limit": "benchmarks.limit",
    "others": "benchmarks.others",
    "latency": "benchmarks.latency",
    "output": "benchmarks.output",
    "inflight": "benchmarks.inflight",
    "fleet": "benchmarks.fleet",
    "submission": "benchmarks.submission",
    "walls": "benchmarks.walls",
    "queues": "benchmarks.queues",
    "soak": "benchmarks.soak",
}
"""Name on the command line -> module that has it, in the order in which they run."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; the same for all parts."""

    redis_url: str
    """A Redis of the benchmarks alone: parts may delete all that is in it."""
    engine: str
    """DOCKER_HOST of a swarm manager."""
    out: Path
    """Folder for the report, the plots and the workers' logs."""
    short: bool = False
    """Only check that the benchmark works: a few jobs, one round, seconds instead of minutes."""
    rounds: int = 3
    """How often each contestant is measured."""
    jobs: int = 200
    """Jobs in one measurement."""
    lab: tuple[str, ...] = ()
    """DOCKER_HOSTs of the three-node lab's engines; empty where it is not up."""
    airflow: Path | None = None
    """Python of a virtual environment that has Airflow's Docker provider; None: without that contestant."""
    go_jaas: Path | None = None
    """The archived Go tool's program; None: without that contestant."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be."""

    relation: Literal[">=", "<="]
    bound: float

    def met(self, value: float) -> bool:
        """Return whether a value is as it should be."""
        return value >= self.bound if self.relation == ">=" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    case: str
    """Who or what was measured, such as ``jaas, 10 in parallel``."""
    figure: str
    """What was measured, such as ``throughput``."""
    unit: str
    """Such as ``jobs/s``, ``ms``, ``KB``; empty for a ratio."""
    value: float
    """The median over the rounds, or one value."""
    samples: tuple[float, ...] = ()
    """What the value was made of, for the JSON."""
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.target.met(self.value)

    @classmethod
    def median(
        cls, case: str, figure: str, unit: str, samples: Sequence[float], target: Target | None = None, note: str = ""
    ) -> Row:
        """Return a row whose value is the median of its samples."""
        return cls(case, figure, unit, percentile(samples, 50), tuple(samples), target, note)


class Part(Protocol):
    """One part of the benchmarks; a module's ``PART``.

    ``run`` says what it does with ``say``, makes its plots in ``options.out`` (``benchmarks.plots``), leaves neither
    services nor processes behind, and raises when a job does not end as it should: figures of failed jobs are none.
    """

    name: str
    """As on the command line; one word."""
    title: str
    """Heading in the report."""
    caveats: tuple[str, ...]
    """What a reader has to know before believing the figures; whole sentences."""

    def run(self, options: Options) -> list[Row]:
        """Measure, and return the rows of the table."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part's share of the report."""

    name: str
    title: str
    caveats: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)


def say(text: str) -> None:
    """Tell how far it is, on stderr."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def load(name: str) -> Part:
    """Return a part by its name.

    Raises:
        KeyError: there is none of that name.
    """
    part: Part = importlib.import_module(PARTS[name]).PART
    return part


def run(names: Sequence[str], options: Options) -> list[Section]:
    """Run parts one after the other, never two at once.

    Args:
        names: which.
        options: for all of them.
    """
    sections = []
    for name in names:
        part = load(name)
        say(f"bench: {part.name}: {part.title}")
        sections.append(Section(part.name, part.title, part.caveats, part.run(options)))
    return sections
