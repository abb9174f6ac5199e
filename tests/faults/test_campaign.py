"""The campaign itself, for a few minutes, with a fixed seed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.real import unavailable

MINUTES = float(os.environ.get("JAAS_CAMPAIGN_MINUTES", "5"))
SEED = os.environ.get("JAAS_CAMPAIGN_SEED", "2026")
REPO = Path(__file__).parents[2]


@pytest.mark.lab
@pytest.mark.timeout(MINUTES * 60 + 900)
def test_nothing_is_lost_and_nothing_runs_twice_whatever_fails(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        unavailable("the lab needs root")
    folder = tmp_path_factory.mktemp("campaign") / "it"
    done = subprocess.run(
        [REPO / "scripts" / "faults", "--minutes", f"{MINUTES:g}", "--seed", SEED, "--folder", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-12_000:]}\n{done.stderr[-4000:]}"
