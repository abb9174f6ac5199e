"""The benchmarks work: each part's short form runs to its end and reports figures. Which figures is no matter."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.worker import clean_env

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("part", ["limit", "others", "latency", "inflight", "fleet", "submission", "soak"])
def test_the_short_form_works(part: str, engine_host: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", part, "--short", "--out", str(tmp_path)],
        cwd=_ROOT,
        env=clean_env(DOCKER_HOST=engine_host),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["machine"]["engine"].startswith("Docker ")
    (section,) = report["parts"]
    assert section["name"] == part
    assert section["rows"]
    for row in section["rows"]:
        assert math.isfinite(row["value"]), row
    assert (tmp_path / "report.md").read_text() == done.stdout.rstrip("\n") + "\n"
