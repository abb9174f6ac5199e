"""scripts/test: a run that is interrupted fails and says so; one that is not tells what pytest told."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.wait import eventually

_ROOT = Path(__file__).resolve().parents[2]

_RUN = """
. "$0/scripts/lib/all.sh"
. "$LIB/tests.sh"
watch_signals
CODE=0
run_tests -p no:cacheprovider "$@" || CODE=$?
report_run "$CODE"
"""
"""What scripts/test does after its set-up and its checks."""

_PASSES = "def test_passes():\n    pass\n"

_WAITS = """
import pathlib, threading

def test_passes():
    pass

def test_waits():
    pathlib.Path(__file__).with_suffix(".begun").touch()
    threading.Event().wait(120)
"""


def _start(folder: Path, code: str) -> subprocess.Popen[str]:
    (folder / "test_it.py").write_text(code)
    (folder / "conftest.py").write_text((_ROOT / "tests" / "conftest.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\ntimeout = 120\n")
    state = folder / "state"
    state.mkdir()
    env = {**os.environ, "JAAS_STATE_DIR": str(state), "JAAS_VENV": sys.prefix, "PYTHONPATH": str(_ROOT)}
    # A session of its own: the signal goes to the script alone, as a CI system sends it.
    return subprocess.Popen(
        ["bash", "-c", _RUN, str(_ROOT), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        cwd=folder,
        start_new_session=True,
    )


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143)])
def test_an_interrupted_run_fails_and_says_so(tmp_path: Path, name: str, code: int) -> None:
    run = _start(tmp_path, _WAITS)
    eventually((tmp_path / "test_it.begun").exists, 60, "the test did not begin")
    run.send_signal(signal.Signals[f"SIG{name}"])
    said, _ = run.communicate(timeout=60)
    assert run.returncode == code, said
    last = said.splitlines()[-1]
    assert last.startswith(f"==> test: INTERRUPTED by SIG{name}, so that not all tests were run"), said
    assert "all passed" not in said


def test_a_whole_run_tells_what_pytest_told(tmp_path: Path) -> None:
    run = _start(tmp_path, _PASSES)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert said.splitlines()[-1].startswith("==> test: 1 passed"), said
    assert said.splitlines()[-1].endswith("checks: all passed")


_CALLED = """#!/usr/bin/env bash
echo "${0##*/}" >>"$CALLED"
"""


def test_the_unit_tests_need_nothing_but_python(tmp_path: Path) -> None:
    programs, called = tmp_path / "venv" / "bin", tmp_path / "called"
    programs.mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports", "pytest", "luacheck", "redis-server", "dockerd", "docker", "apt-get"):
        (programs / name).write_text(_CALLED)
        (programs / name).chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    stamp = hashlib.sha256((_ROOT / "pyproject.toml").read_bytes()).hexdigest()
    (tmp_path / "venv" / ".jaas-stamp").write_text(f"{stamp}  -\n")
    with tempfile.TemporaryDirectory() as state:  # its path may not be long
        env = {"PATH": f"{programs}:{os.environ['PATH']}", "JAAS_STATE_DIR": state, "JAAS_VENV": str(programs.parent)}
        done = subprocess.run(
            [_ROOT / "scripts" / "test", "tests/unit"],
            env={**env, "CALLED": str(called)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(Path(state).iterdir()) == []
    assert called.read_text().split() == ["ruff", "ruff", "mypy", "lint-imports", "pytest"]
