"""The benchmarks work: each part's short form runs to its end and reports its figures. What they are is no matter."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.worker import clean_env

_ROOT = Path(__file__).parents[2]

_FLIGHT = {
    "jobs that became pending",
    "Redis commands meanwhile",
    "container's end to wait(), p50",
}
FIGURES = {
    "limit": {
        "throughput",
        "of it the loop's",
        "of it the worker's",
        "Redis' commands per job",
        "raft writes per job",
        "launch window at the end",
        "processor time of a look at ended tasks",
        "processor time of reading 1,000 tasks",
    },
    "others": {
        "wall time",
        "container's end to result, p50",
        "container's end to result, p95",
        "processor time per job",
        "memory",
        "engine API calls per job",
    },
    "latency": {
        "submit() itself, p50",
        "submit to service created, p50",
        "container's end to wait(), p50",
        "container's end to wait(), p95",
    },
    "output": {
        "submit to result",
        "container's own time",
        "worker's processor time",
        "submit to the watcher's end",
        "that got every byte",
        "container's end to wait(), p50",
        "container's end to wait(), p95",
        "memory",
    },
    "inflight": _FLIGHT,
    "fleet": _FLIGHT,
    "submission": {
        "in bulk",
        "one by one",
        "worker's start until the first job is done",
        "first job done, as a multiple of an empty queue's",
    },
    "queues": {
        "decisions",
        "pass, p50",
        "pass, p99",
        "read a snapshot",
        "apply 100 admissions",
        "each, p50",
    },
    "soak": {
        "throughput",
        "memory of both workers, mean",
        "open files of both workers, mean",
        "threads of both workers, mean",
        "keys in Redis for each job whose record is kept, mean",
    },
}
"""Of each part the figures that it must tell, all of them more than nothing."""

PLOTS = {"limit": "start-rate.svg", "inflight": "inflight.svg", "fleet": "fleet.svg", "soak": "soak.svg"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", FIGURES)
def test_the_short_form_works(part: str, engine_host: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", part, "--short", "--out", str(tmp_path)],
        cwd=_ROOT,
        env=clean_env(DOCKER_HOST=engine_host),
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["machine"]["engine"].startswith("Docker ")
    (section,) = report["parts"]
    assert section["name"] == part
    for row in section["rows"]:
        assert math.isfinite(row["value"]), row
    told = {row["figure"] for row in section["rows"] if row["value"] > 0}
    assert FIGURES[part] <= told
    if part in PLOTS:
        assert (tmp_path / PLOTS[part]).read_text().rstrip().endswith("</svg>")
    assert (tmp_path / "report.md").read_text() == done.stdout.rstrip("\n") + "\n"
