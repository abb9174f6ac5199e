"""Has a client in memory carry out the calls of an ``Executor``: the same command, in a process of this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from jaas_submit import JobSpec
from jaas_submit.testing import Ending, fails, succeeds

__all__ = ["calls_in"]


def calls_in(folder: Path) -> Callable[[JobSpec], Ending]:
    """Return what runs a job's command as a process, and says how it ended.

    Args:
        folder: for the inputs; processes run there.
    """

    def run(spec: JobSpec) -> Ending:
        assert spec.command is not None
        file = folder / "input.json"
        file.write_text(json.dumps(spec.input), encoding="utf-8")
        done = subprocess.run(
            spec.command,
            env={"JAAS_INPUT": str(file)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            return fails(done.returncode, stdout=done.stdout, stderr=done.stderr)
        return succeeds(stdout=done.stdout, stderr=done.stderr)

    return run
