"""Standard input: read where a command names it, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stage import Stage


def test_the_body_of_a_shell_loop_leaves_standard_input_to_the_loop(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a\nb\nc\n")
    script = f"while read word; do {sys.executable} -m jaas_submit.cli.main submit -q alpine $word; done < list"
    environ = {**os.environ, **{name: value for name, value in stage.environ.items() if value is not None}}
    done = subprocess.run(
        ["sh", "-c", script], check=False, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    records = [stage.ledger.queries.get(job_id) for job_id in done.stdout.split()]
    assert [record.spec and record.spec.command for record in records] == [("a",), ("b",), ("c",)], done.stderr


@pytest.mark.parametrize(("text", "value"), [('{"a": 1}', {"a": 1}), ("plain\ntext\n", "plain\ntext\n"), ("", "")])
@pytest.mark.parametrize("word", ["-", "@-"])
def test_the_input_may_be_standard_input(stage: Stage, word: str, text: str, value: object) -> None:
    job_id = stage.jaas("submit", "-q", "--input", word, "alpine", stdin=text).stdout.strip()
    spec = stage.ledger.queries.get(job_id).spec
    assert spec is not None
    assert spec.input == value


def test_what_is_no_text_is_refused_with_a_remedy(stage: Stage) -> None:
    environ = {**os.environ, **{name: value for name, value in stage.environ.items() if value is not None}}
    words = [sys.executable, "-m", "jaas_submit.cli.main", "submit", "--input", "-", "alpine"]
    done = subprocess.run(words, check=False, input=b"\xff\xfe", env=environ, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert b"--input -: standard input is no UTF-8 text; base64" in done.stderr
