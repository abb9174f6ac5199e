"""`jaas run` and `jaas logs -f` print a container's output while it runs. Redis is real, an agent's part is played."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from jaas_submit import Client, JobSpec, JobState, LogLine, Logs, LogStatus, Piece
from jaas_submit.cli.live_output import BatchPrinter
from jaas_submit.cli.output import Progress
from jaas_submit.client.live_output.batch_output import JobFound
from jaas_submit.ledger import Ledger
from jaas_submit.model.ids import batch_job_id
from jaas_submit.output import Gap
from tests.support.output_scene import OutputScene, meanwhile
from tests.support.stage import HOLDER, Stage, ended, on_submit
from tests.support.wait import eventually


@pytest.fixture
def scene(ledger: Ledger, stage: Stage) -> OutputScene:
    return OutputScene(ledger, stage)


@pytest.fixture
def jaas(stage: Stage) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `jaas` as a process of its own."""
    started: list[subprocess.Popen[bytes]] = []
    environ = {name: value for name, value in {**os.environ, **stage.environ}.items() if value is not None}

    def start(*args: str, stdout: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "jaas_submit.cli.main", *args]
        started.append(subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=environ))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def submitted(scene: OutputScene) -> str:
    """Return the id of the job that the command submitted, when its output is watched."""
    scene.job = eventually(scene.ledger.queries.ids, 30)[0]
    scene.feed()
    return scene.job


def read(pipe: IO[bytes] | None, count: int) -> bytes:
    assert pipe
    return pipe.read(count)


Jaas = Callable[..., "subprocess.Popen[bytes]"]


def test_run_prints_bytes_while_the_container_runs(jaas: Jaas, scene: OutputScene) -> None:
    process = jaas("run", "alpine")
    scene.stage.launch(submitted(scene))
    scene.write(b"\x00\xff\r\nno line end")
    assert read(process.stdout, 15) == b"\x00\xff\r\nno line end"
    scene.write(b"to stderr\n", err=True)
    scene.write(b", and its end")
    scene.end_feed()
    scene.end("something else")
    out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == (b", and its end", 0)
    assert b"to stderr\n" in err
    assert b"missing" not in err


@pytest.mark.parametrize(("code", "seen"), [(0, 125), (3, 3)])
def test_who_falls_behind_is_told_and_gets_an_exit_code(jaas: Jaas, scene: OutputScene, code: int, seen: int) -> None:
    process = jaas("run", "-q", "alpine")
    scene.stage.launch(submitted(scene))
    scene.write(b"begin")
    assert read(process.stdout, 5) == b"begin"
    process.send_signal(signal.SIGSTOP)
    scene.write(b"x" * 9_000_000)
    process.send_signal(signal.SIGCONT)
    scene.end_feed()
    scene.end("", code=code)
    out, err = process.communicate(timeout=30)
    missing = 9_000_000 - len(out)
    assert 4_000_000 < missing < 6_000_000
    assert f"jaas: {missing:,} bytes of stdout are missing: they were removed before they were read\n" in err.decode()
    assert process.returncode == seen


def test_output_that_the_node_lost_is_marked_and_whole_makes_it_a_failure(stage: Stage, scene: OutputScene) -> None:
    def play(job_id: str) -> None:
        scene.job = job_id
        stage.launch(job_id)
        scene.feeds.append(scene.feed(), [Gap("stdout", 0, 10, "rotated away")])
        scene.at["stdout"] = 10
        scene.write(b"rest\n")
        scene.end_feed()
        scene.end("")

    stage.script = play
    result = stage.jaas("run", "-q", "alpine")
    assert (result.exit_code, result.stdout) == (0, "rest\n")
    assert result.stderr == "jaas: 10 bytes of stdout are missing: rotated away\n"
    scene.at["stdout"] = 0
    assert stage.jaas("run", "-q", "--whole", "alpine").exit_code == 125


def test_a_retry_is_told_on_stderr(stage: Stage, scene: OutputScene) -> None:
    def play(job_id: str) -> None:
        scene.job = job_id
        stage.launch(job_id)
        scene.write(b"first\n")
        scene.end_feed()
        assert stage.ledger.ownership.back_off(job_id, HOLDER, [ended(code=1)], Logs(), 0.0, "again")[0]
        scene.at["stdout"] = 0
        scene.feed(2)
        assert stage.ledger.ownership.claim(job_id, HOLDER).action == "launch"
        assert stage.ledger.ownership.move(job_id, HOLDER, JobState.PENDING, attempt=2)
        scene.write(b"second\n", 2)
        scene.end_feed(2)
        assert stage.ledger.ownership.finish(job_id, HOLDER, [ended(code=1), ended(number=2)], Logs())

    stage.script = play
    result = stage.jaas("run", "alpine")
    assert (result.exit_code, result.stdout) == (0, "first\nsecond\n")
    assert "jaas: the output of attempt 2 follows\n" in result.stderr


def test_sigterm_leaves_the_job_and_says_so(jaas: Jaas, scene: OutputScene) -> None:
    process = jaas("run", "-q", "alpine")
    job_id = submitted(scene)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, b"")
    assert err.decode().startswith(f"jaas: job {job_id} goes on: `jaas wait {job_id}` follows it again")
    assert scene.ledger.queries.get(job_id).state == "QUEUED"


def test_jaas_run_piped_into_head_ends_with_the_job(jaas: Jaas, scene: OutputScene) -> None:
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe:
        process = jaas("run", "-q", "alpine", stdout=pipe)
    scene.stage.launch(submitted(scene))
    os.close(reader)
    for _ in range(3):
        scene.write(b"x\n" * 1000)
    scene.end_feed()
    scene.end("", code=3)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert b"Error" not in err


def test_logs_into_head_end_at_once(jaas: Jaas, scene: OutputScene) -> None:
    job_id = scene.job = scene.stage.add()
    scene.stage.launch(job_id)
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe:
        process = jaas("logs", "-f", "-q", job_id, stdout=pipe)
    scene.write(b"x\n")
    assert os.read(reader, 2) == b"x\n"
    os.close(reader)
    scene.write(b"y\n")
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, b"")


def test_logs_follow_with_times_from_one_stream(stage: Stage, scene: OutputScene) -> None:
    job_id = scene.job = stage.add()
    stage.launch(job_id)

    def play() -> None:
        for data in (b"a", b"b\nc\n", b"d\re\n\nf"):
            scene.write(data)
        scene.write(b"not this\n", err=True)
        scene.end_feed()
        scene.end("")

    with meanwhile(play):
        result = stage.jaas("logs", "-q", "-f", "-t", "--stdout", job_id)
    stamp = "2026-11-30T12:00:00.000000001Z"
    assert result.stdout_bytes.decode() == "".join(f"{stamp} {line}" for line in ("ab\n", "c\n", "d\re\n", "\n", "f"))
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("args", "stdout"),
    [
        (["--since", "2026-11-23T12:00:00.2Z"], "two\nthree\n"),
        (["--since", "2026-11-23T12:00:00.2Z", "--tail", "1"], "three\n"),
        (["--since", "1000d"], "one\ntwo\nthree\n"),
        (["--since", "1s"], ""),
    ],
)
@pytest.mark.parametrize("follow", [["-f"], []])
def test_logs_since(stage: Stage, args: list[str], stdout: str, follow: list[str]) -> None:
    lines = [
        LogLine(f"2026-11-23T12:00:00.{n}00000000Z", "stdout", data) for n, data in enumerate([b"one\n", b"two\n"], 1)
    ]
    lines.append(LogLine("2026-11-23T12:00:00.300000000Z", "stdout", b"three\n"))
    job_id = stage.add(end=ended(), logs=Logs(tuple(lines)))
    result = stage.jaas("logs", *follow, *args, job_id)
    assert (result.exit_code, result.stdout) == (0, stdout)


def test_logs_follow_of_unavailable_output(stage: Stage) -> None:
    job_id = stage.add(end=ended(), logs=Logs(status=LogStatus.UNAVAILABLE, reason="the node is away"))
    result = stage.jaas("logs", "-f", "-q", job_id)
    assert (result.exit_code, result.stderr) == (125, "jaas: output unavailable: the node is away\n")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "give a job's ID, or --batch BATCH"),
        (["x", "--batch", "b"], "give a job's ID, or --batch BATCH"),
        (["--batch", "b"], "--batch: needs -f"),
        (["-f", "--json", "x"], "--json: is for output that is stored"),
        (["--since", "noon", "x"], "--since: write a time such as"),
    ],
)
def test_logs_refuses_what_does_not_fit(stage: Stage, args: list[str], why: str) -> None:
    result = stage.jaas("logs", *args)
    assert result.exit_code == 2
    assert why in result.stderr


def test_live_output_needs_no_terminal_and_is_flushed(jaas: Jaas, scene: OutputScene, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with target.open("wb") as file:
        jaas("run", "-q", "alpine", stdout=file)
    scene.stage.launch(submitted(scene))
    scene.write(b"now")
    eventually(lambda: target.read_bytes() == b"now")


# -- batches ----------------------------------------------------------------------------------------------------------


def play_batch(stage: Stage, scene: OutputScene, job_ids: list[str]) -> None:
    """Run two jobs at the same time, so that their lines are mixed."""
    scenes = [OutputScene(scene.ledger, stage) for _ in job_ids]
    for mine, job_id in zip(scenes, job_ids, strict=True):
        mine.job = job_id
        stage.launch(job_id)
    scenes[0].write(b"a line that is not ")
    scenes[1].write(b"two\n")
    scenes[1].write(b"error\n", err=True)
    scenes[0].write(b"finished yet\none\n")
    scenes[1].write(b"no line end")
    for mine in scenes:
        mine.end_feed()
        mine.end("")


BATCH_LINES = [
    "0 | a line that is not finished yet",
    "0 | one",
    "1 | no line end",
    "1 | two",
]


def test_logs_follow_a_batch_with_the_inputs_number(stage: Stage, scene: OutputScene) -> None:
    prefix = scene.ledger.prefix
    with Client(stage.environ["JAAS_REDIS_URL"], queue=prefix, prefix=prefix) as client:
        batch = client.map(JobSpec(image="x", command=["{item}"]), [1, 2])
        jobs = [batch_job_id(batch.id, n) for n in range(2)]
        with meanwhile(lambda: play_batch(stage, scene, jobs)):
            result = stage.jaas("logs", "-f", "--batch", batch.id)
        assert sorted(result.stdout.splitlines()) == BATCH_LINES
        assert (result.exit_code, result.stderr) == (0, "1 | error\n")
        stored = stage.jaas("logs", "-f", "--batch", batch.id)
        assert (stored.exit_code, stored.stdout) == (0, "")
    assert stage.jaas("logs", "-f", "--batch", "6f0d8a52-0000-4000-8000-000000000001").exit_code == 125


def test_the_number_is_coloured_on_a_terminal(
    stage: Stage, scene: OutputScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    printer = BatchPrinter(Progress(quiet=True), 10)
    written = io.BytesIO()

    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", Terminal(written))
    for number in (1, 10):
        printer.show(JobFound(number, "j", Piece("stdout", 0, "", b"x\n")))
    monkeypatch.setenv("NO_COLOR", "1")
    BatchPrinter(Progress(quiet=True), 10).show(JobFound(1, "j", Piece("stdout", 0, "", b"x\n")))
    assert written.getvalue() == b"\x1b[33m 1 | \x1b[0mx\n\x1b[32m10 | \x1b[0mx\n 1 | x\n"


def test_map_prints_the_jobs_output_on_stderr_and_results_on_stdout(
    stage: Stage, scene: OutputScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(job_ids: list[str]) -> None:
        stage.threads.append(threading.Thread(target=play_batch, args=(stage, scene, job_ids)))
        stage.threads[-1].start()

    on_submit(monkeypatch, act)
    result = stage.jaas("map", "--logs", "--inputs", "-", "alpine", "{item}", stdin="1\n2\n")
    assert result.exit_code == 0
    assert sorted(json.loads(line)["index"] for line in result.stdout.splitlines()) == [0, 1]
    shown = [line for line in result.stderr.splitlines() if " | " in line]
    assert sorted(shown) == sorted([*BATCH_LINES, "1 | error"])
