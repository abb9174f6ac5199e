"""PURE: the verdict on a campaign, and its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Finding", "Report", "table"]


@dataclass(frozen=True)
class Finding:
    """One thing that should not have happened."""

    kind: str
    job: str
    detail: str


@dataclass
class Report:
    """The verdict."""

    mode: str
    seed: int
    minutes: float
    jobs: int = 0
    refused: int = 0
    not_injected: int = 0
    dropped: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    excused: int = 0
    made_up: int = 0
    hidden: int = 0
    started_again: int = 0
    still_running: int = 0
    recovery: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    worker_ends: int = 0
    surprises: int = 0
    hostile: int = 0
    hostile_outcomes: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    """Of all attempts of the campaign's own jobs."""
    outputs: Counter[str] = field(default_factory=Counter)
    """Outputs that were compared with what the job printed, by what the ledger says of them."""
    followed: int = 0
    follow_errors: int = 0
    """Followers that gave Redis up."""
    met: Counter[str] = field(default_factory=Counter)
    """By kind of fault: containers that ran when their node had it."""

    def count(self, *kinds: str) -> int:
        """Return how many findings there are of some kinds."""
        return sum(finding.kind in kinds for finding in self.findings)

    @property
    def failed(self) -> bool:
        """Whether the promise was broken."""
        return self.count("lost", "duplicate", "overlap", "wrong", "wrong output", "worker end") > 0


def _percentile(values: Sequence[float], share: float) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{ordered[min(int(share * len(ordered)), len(ordered) - 1)]:.1f} s"


def _rate(report: Report, kind: str) -> str:
    """Return how many findings of a kind there are, and, where there are any, for how many jobs and faults."""
    found = report.count(kind)
    if not found or not report.jobs:
        return str(found)
    return f"{found} ({1000 * found / report.jobs:.1f} per 1,000 jobs)"


def table(reports: Sequence[Report]) -> str:
    """Return the reports as a Markdown table, one column each."""
    rows: list[tuple[str, list[Any]]] = [
        ("", [report.mode for report in reports]),
        ("seed", [report.seed for report in reports]),
        ("minutes of faults", [f"{report.minutes:g}" for report in reports]),
        ("jobs acknowledged", [report.jobs for report in reports]),
        ("submissions refused", [report.refused for report in reports]),
        ("faults", [sum(report.faults.values()) for report in reports]),
    ]
    kinds = sorted({kind for report in reports for kind in report.faults})
    rows.extend((f"- {kind}", [report.faults[kind] for report in reports]) for kind in kinds)
    for name, kind in (
        ("**lost**", "lost"),
        ("**duplicate starts**", "duplicate"),
        ("**overlapping attempts**", "overlap"),
        ("**wrong outcomes**", "wrong"),
        ("**wrong outputs**", "wrong output"),
        ("services left behind", "leftover"),
    ):
        rows.append((name, [_rate(report, kind) for report in reports]))
    for name, counters in (
        ("containers that ran during", [report.met for report in reports]),
        ("attempts with cause", [report.causes for report in reports]),
        ("outputs that were compared and are said to be", [report.outputs for report in reports]),
    ):
        kinds = sorted({kind for counter in counters for kind in counter})
        rows.extend((f"{name} {kind}", [counter[kind] for counter in counters]) for kind in kinds)
    rows += [
        ("replies to a service's creation that were dropped", [report.dropped for report in reports]),
        ("faults that could not be injected", [report.not_injected for report in reports]),
        ("outcomes that a node's fault explains", [report.excused for report in reports]),
        ("exit codes that a restarted engine made up (255)", [report.made_up for report in reports]),
        ("returns of a node that a change of leader hid (preempted)", [report.hidden for report in reports]),
        ("containers that a restarted engine started again", [report.started_again for report in reports]),
        ("jobs whose container still ran when the campaign was over", [report.still_running for report in reports]),
        ("jobs whose output was followed", [report.followed for report in reports]),
        ("- whose follower gave Redis up", [report.follow_errors for report in reports]),
        ("workers and agents that ended by themselves", [report.worker_ends for report in reports]),
        ("- that were up, or had no reason", [report.count("worker end") for report in reports]),
        ("tracebacks that jaas logged", [report.surprises for report in reports]),
        ("hostile entries that became a job", [report.hostile for report in reports]),
        ("recovery p50", [_percentile(report.recovery, 0.5) for report in reports]),
        ("recovery p99", [_percentile(report.recovery, 0.99) for report in reports]),
        ("recovery max", [_percentile(report.recovery, 1.0) for report in reports]),
        ("jobs that a fault touched", [len(report.recovery) for report in reports]),
    ]
    lines = [f"| {name} | " + " | ".join(str(value) for value in values) + " |" for name, values in rows]
    lines.insert(1, "|---" * (len(reports) + 1) + "|")
    return "\n".join(lines)
