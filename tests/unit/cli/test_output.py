"""What `jaas` looks like: durations, tables with and without rich, colours on a terminal only."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from jaas_submit import Attempt, Cause, JobRecord, JobSpec, JobState
from jaas_submit.cli import output

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text", "coarse"),
    [
        (-1, "0.0s", "0s"),
        (0, "0.0s", "0s"),
        (0.44, "0.4s", "0s"),
        (9.94, "9.9s", "10s"),
        (59.4, "59s", "59s"),
        (59.6, "1m", "1m"),
        (61, "1m1s", "1m1s"),
        (3600, "1h", "1h"),
        (3601, "1h1s", "1h1s"),
        (90061, "1d1h", "1d1h"),
    ],
)
def test_durations(seconds: float, text: str, coarse: str) -> None:
    assert output.duration(seconds) == text
    assert output.duration(seconds, coarse=True) == coarse


def record(state: JobState = JobState.RUNNING, **fields: object) -> JobRecord:
    usual = {"spec": JobSpec(image="alpine"), "created_at": NOW, "updated_at": NOW, "queue": "jaas", "attempt": 1}
    return JobRecord(id="j1", state=state, **{**usual, **fields})


def failed(number: int = 1, cause: Cause = Cause.EXIT, code: int | None = 4, reason: str = "") -> Attempt:
    end = NOW + timedelta(seconds=2)
    state = JobState.FAILED
    return Attempt(
        number=number, state=state, cause=cause, exit_code=code, reason=reason, started_at=NOW, finished_at=end
    )


@pytest.mark.parametrize(
    ("job", "exit_code", "ran", "why"),
    [
        (record(JobState.QUEUED), "-", "-", ""),
        (record(JobState.PENDING, detail="no suitable node"), "-", "-", "no suitable node"),
        (record(started_at=NOW), "-", "1m", ""),
        (record(started_at=NOW, cancel="enough"), "-", "1m", "being cancelled: enough"),
        (record(JobState.FAILED, attempts=(failed(),)), "4", "2.0s", ""),
        (record(JobState.FAILED, attempts=(failed(cause=Cause.OOM, code=137),)), "137", "2.0s", "oom"),
        (
            record(JobState.FAILED, attempts=(failed(cause=Cause.IMAGE, code=None, reason="none"),)),
            "-",
            "2.0s",
            "image: none",
        ),
        # an attempt that ended is not the end of a job that is tried again
        (record(JobState.BACKOFF, attempts=(failed(),), detail="attempt 2 in 8 s"), "-", "-", "attempt 2 in 8 s"),
        (record(started_at=NOW, attempts=(failed(),), attempt=2), "-", "1m", ""),
    ],
)
def test_a_row_of_the_list(job: JobRecord, exit_code: str, ran: str, why: str) -> None:
    row = dict(zip(output.LIST_HEADERS, output.list_row(job, NOW.timestamp() + 60), strict=True))
    assert (row["EXIT"], row["RAN"], row["WHY"]) == (exit_code, ran, why)
    assert row["AGE"] == "1m"


def test_earlier_attempts_have_a_line_each() -> None:
    job = record(JobState.FAILED, attempts=(failed(), failed(2, Cause.OOM, 137, "out of memory")), attempt=2)
    rows = dict(output.status_rows(job))
    assert rows["attempt 1"] == "exit, exit code 4, ran 2.0s"
    assert (rows["attempt"], rows["cause"], rows["exit code"]) == ("2", "oom", "137")
    assert "attempt 2" not in rows


def test_a_table_without_a_terminal_is_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("A", "B"), [("long one", "x"), ("s", "[bold]y[/]\x1b[31m\nz")])
    assert capsys.readouterr().out == "A         B\nlong one  x\ns         [bold]y[/] [31m z\n"


def test_what_others_wrote_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_details([("id", "a\x1b]0;title\x07\nb"), ("none", "")], blank_before=False)
    assert capsys.readouterr().out == "id:        a ]0;title  b\n"


def in_terminal(code: str, **env: str) -> str:
    """Return what code prints on a terminal."""
    mine, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "CI"}}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env={**environ, "TERM": "xterm-256color", "COLUMNS": "100", **env},
    )
    os.close(theirs)
    pieces = []
    while True:
        try:
            piece = os.read(mine, 4096)
        except OSError:  # Linux' way to say that the other side is closed
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(mine)
    assert process.wait(30) in {0, 3}, b"".join(pieces)
    return b"".join(pieces).decode().replace("\r\n", "\n")


TABLE = (
    "from jaas_submit.cli.output import print_table; print_table(('ID', 'STATE', 'JOB'), [('a1', 'FAILED', '[red]')])"
)
NO_RICH = "import sys; sys.modules['rich'] = sys.modules['rich.console'] = None; "


@pytest.mark.parametrize("prelude", ["", NO_RICH], ids=["with rich", "without rich"])
def test_a_table_on_a_terminal_has_colours(prelude: str) -> None:
    shown = in_terminal(prelude + TABLE)
    assert "\x1b[31mFAILED" in shown
    assert "[red]" in shown


def test_a_reader_that_has_enough_does_not_change_the_exit_code() -> None:
    code = (
        "import sys; from jaas_submit.cli.stored_output import print_logs; from jaas_submit import LogLine, Logs;"
        "print_logs(Logs((LogLine('', 'stdout', b'x' * 1000 + b'\\n'),) * 1000)); sys.exit(4)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 4


def test_progress_prints_each_state_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = output.Progress(quiet=False)
    states: Sequence[JobRecord] = [
        record(JobState.QUEUED),
        record(JobState.QUEUED),
        record(node="n1"),
        record(node="n1"),
    ]
    for job in states:
        progress.change(job)
    progress.change(record(JobState.SUCCEEDED))
    assert [line.split()[3:] for line in capsys.readouterr().err.splitlines()] == [["queued"], ["running", "on", "n1"]]
