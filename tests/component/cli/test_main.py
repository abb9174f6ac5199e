"""The commands of `jaas`: what goes to stdout and stderr, and the exit code. Redis is real, the worker is played."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import click.testing
import jsonschema
import pytest
import redis

from jaas_submit import (
    Attempt,
    Cause,
    JobRecord,
    JobResult,
    JobSpec,
    JobState,
    LedgerUnavailable,
    LogGap,
    LogLine,
    Logs,
    LogStatus,
)
from jaas_submit.batch_model.schema import result_schema
from jaas_submit.cli.main import cli
from jaas_submit.client import wait
from jaas_submit.client.session import Session
from jaas_submit.client.wait import Steps
from jaas_submit.connection.subscription import Subscription
from jaas_submit.errors import NotAManager
from tests.support.ports import free_port
from tests.support.stage import HOLDER, Stage, ended, on_a_terminal
from tests.support.wait import eventually

# -- run --------------------------------------------------------------------------------------------------------------


def test_run_prints_output_progress_and_how_it_ended(stage: Stage) -> None:
    stage.play(ended())
    result = stage.jaas("run", "alpine", "echo", "hi")
    job_id = stage.ledger.queries.ids()[0]
    assert result.exit_code == 0
    assert result.stdout == "one\nthree\n"
    lines = result.stderr.splitlines()
    assert lines[0] == f"jaas: job {job_id} is in queue {stage.ledger.prefix}"
    assert lines[-2] == "two"
    assert lines[-1] == f"jaas: job {job_id} succeeded with exit code 0, attempt 1 on node1 (1.5s)"
    assert stage.ledger.queries.get(job_id).spec == JobSpec(image="alpine", command=["echo", "hi"])


def test_run_shows_each_state_as_it_comes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step, so that none is passed over: the next move is made when the last one was shown."""
    moves: Iterator[Callable[[str], object]] = iter(
        [
            lambda job_id: (
                stage.ledger.maintenance.renew_lease(HOLDER, 60, {}) and stage.ledger.ownership.claim(job_id, HOLDER)
            ),
            lambda job_id: stage.ledger.ownership.move(job_id, HOLDER, JobState.PENDING, detail="no suitable node"),
            lambda job_id: stage.ledger.ownership.move(job_id, HOLDER, JobState.PENDING, detail="preparing"),
            lambda job_id: stage.ledger.ownership.move(job_id, HOLDER, JobState.RUNNING, node="node1"),
            lambda job_id: stage.ledger.ownership.finish(job_id, HOLDER, [ended()], Logs()),
        ]
    )
    run = Session.run

    def stepwise(session: Session, steps: Steps[JobRecord]) -> Iterator[JobRecord]:
        for record in run(session, steps):
            yield record
            if move := next(moves, None):
                move(record.id)

    monkeypatch.setattr(Session, "run", stepwise)
    shown = re.findall(r"^jaas: +[\d.]+ s  (.*)$", stage.jaas("run", "alpine").stderr, re.MULTILINE)
    assert shown == ["queued", "launching", "pending: no suitable node", "pending: preparing", "running on node1"]


EXIT_CODES = [
    (ended(), 0),
    (ended(code=4), 4),
    (ended(code=255), 255),
    (ended(code=256), 125),
    (ended(Cause.OOM, 137), 137),
    (ended(Cause.OOM, None), 125),
    (ended(Cause.LAUNCH, 127, "executable file not found"), 127),
    (ended(Cause.LAUNCH, 126), 126),
    (ended(Cause.LAUNCH, None, "invalid mount"), 125),
    (ended(Cause.RUN_TIMEOUT, 143), 124),
    (ended(Cause.PENDING_TIMEOUT, None), 124),
    (ended(Cause.DEADLINE, 143), 124),
    (ended(Cause.EXPIRED, None, number=0), 124),
    (ended(Cause.IMAGE, None, "No such image: nope"), 125),
    (ended(Cause.UNSCHEDULABLE, None), 124),
    (ended(Cause.NODE_LOST, None), 125),
    (ended(Cause.PREEMPTED, 143), 125),
    (ended(Cause.CANCELLED, 143), 125),
    (ended(Cause.REMOVED_OUTSIDE, None), 125),
    (ended(Cause.REFUSED, None, number=0), 125),
    (ended(Cause.ENGINE, None), 125),
]


@pytest.mark.parametrize(
    ("end", "code"), EXIT_CODES, ids=lambda v: f"{v.cause}-{v.exit_code}" if isinstance(v, Attempt) else ""
)
def test_the_exit_code_is_the_jobs(stage: Stage, end: Attempt, code: int) -> None:
    stage.play(end, lines=())
    result = stage.jaas("run", "alpine")
    assert result.exit_code == code
    assert result.stdout == ""
    if code:
        assert end.reason in result.stderr.splitlines()[-1]


def test_run_json_prints_the_result_and_nothing_else(stage: Stage) -> None:
    stage.play(ended(code=4))
    result = stage.jaas("run", "--json", "alpine")
    data = json.loads(result.stdout)
    jsonschema.validate(data, result_schema())
    assert (result.exit_code, data["exit_code"], data["logs"]["stdout"]) == (4, 4, "one\nthree\n")
    assert JobResult.model_validate(data).state == "FAILED"


@pytest.mark.parametrize(
    ("end", "last_line"),
    [
        (ended(), None),
        (ended(code=4), None),  # the exit code says it all
        (ended(Cause.IMAGE, None, "No such image"), "failed without an exit code (cause: image; No such image)"),
        (ended(Cause.RUN_TIMEOUT, 143, "ran too long"), "(cause: run_timeout; ran too long)"),
    ],
)
def test_run_quiet_says_only_what_the_exit_code_does_not(stage: Stage, end: Attempt, last_line: str | None) -> None:
    stage.play(end)
    result = stage.jaas("run", "-q", "alpine")
    assert result.stdout == "one\nthree\n"
    container, *ours = result.stderr.splitlines()
    assert container == "two"
    assert len(ours) == (last_line is not None)
    assert all(last_line in line for line in ours if last_line)


@pytest.mark.parametrize("flag", ["--show-logs=false", "-l=false", "--no-show-logs"])
def test_run_without_logs(stage: Stage, flag: str) -> None:
    stage.play(ended())
    result = stage.jaas("run", flag, "-i", "alpine")
    assert result.stdout == ""
    assert "two" not in result.stderr


def test_run_of_the_go_tool_needs_another_binary_only(stage: Stage) -> None:
    stage.play(ended())
    line = "run -r -i=alpine:3.12 -n a --network b -c node.role==worker -e A=b -m /a=/b -s key -t 60s --remove=false -b"
    result = stage.jaas(*line.split(), "-l=true", "--command", "sh -c 'echo \"a  b\"'")
    assert result.exit_code == 0
    spec = stage.ledger.queries.get(stage.ledger.queries.ids()[0]).spec
    assert spec is not None
    assert spec.entrypoint == ("sh", "-c", 'echo "a  b"')
    assert ([one.name for one in spec.networks], spec.run_timeout) == (["a", "b"], 60)
    assert "the service is removed all the same" in result.stderr
    assert "networks: ['a', 'b']" in result.stderr
    assert "A': '***'" in result.stderr  # -b shows no value of a variable


def test_go_run_reads_each_flag_as_the_go_tool_did(stage: Stage) -> None:
    stage.play(ended())
    result = stage.jaas("go-run", "-d", "sleep 1", "-i", "alpine", "-t", "60s", "-r=false")
    assert result.exit_code == 0, result.stderr
    spec = stage.ledger.queries.get(stage.ledger.queries.ids()[0]).spec
    assert spec == JobSpec(image="alpine", entrypoint=["sleep", "1"], run_timeout=60, pending_timeout=60)


def test_run_detached_prints_the_id_and_does_not_wait(stage: Stage) -> None:
    result = stage.jaas("run", "-d", "alpine", "sleep", "100")
    assert result.stdout.split() == stage.ledger.queries.ids()
    assert stage.ledger.queries.get(result.stdout.strip()).state is JobState.QUEUED


def test_output_that_is_not_all_there_is_is_marked(stage: Stage) -> None:
    stage.play(ended(), status=LogStatus.TRUNCATED)
    result = stage.jaas("run", "--quiet", "alpine")
    assert (result.exit_code, result.stderr) == (0, "two\njaas: output truncated: no more\n")
    stage.play(ended(), status=LogStatus.TRUNCATED)
    assert stage.jaas("run", "--whole", "alpine").exit_code == 125


def test_a_job_that_no_worker_takes_within_t_is_given_up(stage: Stage) -> None:
    result = stage.jaas("run", "-t", "200ms", "alpine")
    assert result.exit_code == 124
    assert "no worker took it" in result.stderr
    assert stage.ledger.queries.get(stage.ledger.queries.ids()[0]).state == "CANCELLED"


def test_ctrl_c_leaves_the_job_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "run", _interrupt)
    result = stage.jaas("run", "alpine")
    job_id = stage.ledger.queries.ids()[0]
    assert result.exit_code == 130
    assert f"`jaas cancel {job_id}` ends it" in result.stderr
    assert stage.ledger.queries.get(job_id).state == "QUEUED"


def test_a_second_ctrl_c_cancels_the_job(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "run", _interrupt)
    monkeypatch.setattr("jaas_submit.cli.follow_job.time.sleep", _interrupt)
    on_a_terminal(monkeypatch)
    result = stage.jaas("run", "alpine")
    assert result.exit_code == 130
    assert "press Ctrl-C again" in result.stderr
    assert stage.ledger.queries.get(stage.ledger.queries.ids()[0]).state == "CANCELLED"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_following_outlasts_a_redis_that_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "RETRY_PAUSE_S", 0.0)
    stage.play(ended())
    play = stage.script
    assert play is not None
    listen, failures = Subscription.next, [LedgerUnavailable("gone")] * 3

    def play_later(job_id: str) -> None:
        eventually(lambda: not failures)
        play(job_id)

    def shaky(subscription: Subscription, timeout: float) -> str | None:
        if failures:
            raise failures.pop()
        return listen(subscription, timeout)

    stage.script = play_later

    monkeypatch.setattr(Subscription, "next", shaky)
    result = stage.jaas("run", "alpine")
    assert result.exit_code == 0
    assert not failures
    assert "Redis does not answer; the job goes on" in result.stderr


def test_following_gives_up_in_the_end_and_says_that_the_job_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "RETRY_PAUSE_S", 0.0)
    monkeypatch.setattr(wait, "REDIS_OUTAGE_TIMEOUT_S", 0.05)

    def broken(_: Subscription, timeout: float) -> str | None:
        def enter(_: Subscription) -> Subscription:
            raise LedgerUnavailable("gone")

        monkeypatch.setattr(Subscription, "__enter__", enter)
        raise LedgerUnavailable("gone")

    monkeypatch.setattr(Subscription, "next", broken)
    result = stage.jaas("run", "alpine")
    assert result.exit_code == 125
    assert f"the job goes on, and `jaas wait {stage.ledger.queries.ids()[0]}` follows it again" in result.stderr


# -- submit and wait --------------------------------------------------------------------------------------------------


def test_submit_prints_the_id(stage: Stage) -> None:
    result = stage.jaas("submit", "--label", "a=b", "alpine", "true")
    assert result.exit_code == 0
    job_id = result.stdout.strip()
    assert stage.ledger.queries.get(job_id).state == "QUEUED"
    assert job_id in result.stderr
    quiet = stage.jaas("submit", "-q", "alpine")
    assert (quiet.stderr, quiet.stdout) == ("", f"{stage.ledger.queries.ids()[0]}\n")
    as_json = json.loads(stage.jaas("submit", "--json", "alpine").stdout)
    assert as_json == {"id": stage.ledger.queries.ids()[0], "queue": stage.ledger.prefix, "state": "QUEUED"}


def test_a_job_for_later_waits_and_its_status_says_until_when(stage: Stage) -> None:
    done = stage.jaas("submit", "--json", "--not-before", "5h", "alpine")
    told = json.loads(done.stdout)
    assert told["state"] == "WAITING"
    record = stage.ledger.queries.get(told["id"])
    assert record.not_before is not None
    assert "not before" in stage.jaas("status", record.id).stdout
    assert "not started before its time: in 5 hours" in stage.jaas("explain", record.id).stdout
    assert stage.jaas("cancel", record.id).exit_code == 0
    assert stage.ledger.queries.get(record.id).state is JobState.CANCELLED
    said = stage.jaas("submit", "--not-before", "2100-01-31T12:00:00Z", "alpine")
    assert (said.exit_code, "more than ten years ahead" in said.stderr) == (2, True)


@pytest.mark.parametrize("command", ["run", "submit"])
@pytest.mark.parametrize("time", ["yesterday", "2030-01-31T12:00:00", "-5m", "nan"])
def test_a_bad_time_is_one_sentence(stage: Stage, command: str, time: str) -> None:
    for more in ([], ["--dry-run"]):
        done = stage.jaas(command, *more, "--not-before", time, "alpine")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith("jaas: not_before: ")
        assert done.stderr.count("\n") == 1


def test_submit_reads_a_description_from_stdin(stage: Stage) -> None:
    result = stage.jaas("submit", "-q", "--spec", "-", "-e", "A=b", stdin='{"image": "busybox", "command": ["true"]}')
    spec = stage.ledger.queries.get(result.stdout.strip()).spec
    assert spec == JobSpec(image="busybox", command=["true"], env={"A": "b"})


def test_wait_prints_how_each_ended_and_ends_with_the_first_bad_exit_code(stage: Stage) -> None:
    jobs = [stage.add(end=end) for end in (ended(), ended(code=4), ended(code=5))]
    result = stage.jaas("wait", *jobs)
    assert result.exit_code == 4
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == [
        "job job-1 succeeded with exit code 0",
        "job job-2 failed with exit code 4 (cause: exit)",
        "job job-3 failed with exit code 5 (cause: exit)",
    ]
    assert stage.jaas("wait", "-q", jobs[0]).output == ""
    results = [json.loads(line) for line in stage.jaas("wait", "--json", *jobs).stdout.splitlines()]
    assert [result["exit_code"] for result in results] == [0, 4, 5]


@pytest.mark.parametrize("timeout", ["0", "50ms"])
def test_wait_has_a_timeout(stage: Stage, timeout: str) -> None:
    result = stage.jaas("wait", "--timeout", timeout, stage.add())
    assert result.exit_code == 124
    assert "job job-1 is QUEUED after" in result.stderr
    assert stage.jaas("wait", "-t", "0", stage.add(end=ended())).exit_code == 0


# -- status, logs, list, cancel ---------------------------------------------------------------------------------------


def test_status(stage: Stage) -> None:
    secret = JobSpec(image="alpine", env={"PASSWORD": "hunter2"}, labels={"team": "a"})
    jobs = [stage.add(secret, ended(code=4, reason="task: non-zero exit (4)")), stage.add()]
    result = stage.jaas("status", *jobs)
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    first, second = result.stdout.split("\n\n")
    fields = dict(line.split(":", 1) for line in first.splitlines())
    assert {name: value.strip() for name, value in fields.items()}.items() >= {
        "id": "job-1",
        "state": "FAILED",
        "job": "alpine env[PASSWORD]",
        "labels": "team=a",
        "node": "node1",
        "exit code": "4",
        "cause": "exit",
        "reason": "task: non-zero exit (4)",
        "started": "2026-11-23 12:00:00.000+00:00",
        "ran": "1.5s",
        "output": "complete",
    }.items()
    assert "state:     QUEUED" in second
    assert stage.jaas("status", "-q", *jobs).stdout == "FAILED\nQUEUED\n"


def test_status_json_shows_variables_only_when_asked(stage: Stage) -> None:
    job_id = stage.add(JobSpec(image="alpine", env={"PASSWORD": "hunter2"}))
    assert json.loads(stage.jaas("status", "--json", job_id).stdout)["spec"]["env"] == {"PASSWORD": "***"}
    shown = json.loads(stage.jaas("status", "--json", "--show-env", job_id).stdout)["spec"]
    assert shown == {"version": 1, "image": "alpine", "env": {"PASSWORD": "hunter2"}}


def test_a_job_that_is_not_known_does_not_hide_the_others(stage: Stage) -> None:
    job_id = stage.add()
    for command in ("status", "cancel"):
        result = stage.jaas(command, "nope", job_id)
        assert result.exit_code == 125
        assert result.stderr == "jaas: no job nope is known; its record may have expired\n"
        assert job_id in result.stdout


@pytest.mark.parametrize(
    ("args", "stdout", "stderr"),
    [
        ([], "one\nthree\n", "two\n"),
        (["--stdout"], "one\nthree\n", ""),
        (["--stderr"], "", "two\n"),
        (["--tail", "2"], "three\n", "two\n"),
        (["-n", "0"], "", ""),
        (["-n", "9"], "one\nthree\n", "two\n"),
        (["--attempt", "1"], "one\nthree\n", "two\n"),
        (["-f"], "one\nthree\n", "two\n"),
        (["-t", "--stdout", "--tail", "1"], "2026-11-23T12:00:00.3Z three\n", ""),
    ],
)
def test_logs(stage: Stage, args: list[str], stdout: str, stderr: str) -> None:
    result = stage.jaas("logs", *args, stage.add(end=ended()))
    assert (result.exit_code, result.stdout, result.stderr) == (0, stdout, stderr)


def test_logs_are_the_containers_bytes(stage: Stage) -> None:
    """Nothing is stripped, escaped, decoded or added."""
    out, err = b"\x1b[31mred\x1b[0m \xc3\xa4 \xed\xa0\xbd\r\n" + bytes(range(256)), bytes(range(255, -1, -1))
    job_id = stage.add(end=ended(), logs=Logs((LogLine("", "stdout", out), LogLine("", "stderr", err))))
    result = stage.jaas("logs", job_id)
    assert (result.stdout_bytes, result.stderr_bytes) == (out, err)
    assert stage.jaas("logs", "--stdout", "--tail", "1", job_id).stdout_bytes == bytes(range(11, 256))
    stamped = stage.jaas("logs", "--stdout", "--timestamps", job_id).stdout_bytes
    assert stamped == b"- " + out.replace(b"\n", b"\n- ")
    line = json.loads(stage.jaas("logs", "--json", "--stderr", job_id).stdout)["lines"][0]
    assert base64.b64decode(line["base64"]) == err


def test_what_jaas_says_about_output_goes_to_stderr(stage: Stage) -> None:
    lines = [LogLine("t", "stdout", data) for data in (b"a\n", b"b\n")]
    gaps = (LogGap("stdout", 1, 1234), LogGap("stdout", 2, 0, exact=False))
    logs = Logs(tuple(lines), LogStatus.PARTIAL, "why", gaps, ("stopped by jaas",))
    job_id = stage.add(end=ended(), logs=logs)
    told = [
        "jaas: 1,234 bytes of stdout are missing here",
        "jaas: an unknown number of bytes of stdout are missing at the end",
        "jaas: stopped by jaas",
        "jaas: output partial: why",
    ]
    for args in ([], ["--quiet"]):
        result = stage.jaas("logs", *args, job_id)
        assert (result.exit_code, result.stdout, result.stderr.splitlines()) == (0, "a\nb\n", told)
    assert stage.jaas("logs", "--whole", job_id).exit_code == 125
    assert stage.jaas("logs", "--whole", stage.add(end=ended())).exit_code == 0


def test_logs_json(stage: Stage) -> None:
    data = json.loads(stage.jaas("logs", "--json", "--tail", "1", stage.add(end=ended())).stdout)
    assert data == {
        "job_id": "job-1",
        "attempt": 1,
        "status": "complete",
        "reason": "",
        "lines": [{"time": "2026-11-23T12:00:00.3Z", "stream": "stdout", "text": "three\n"}],
        "gaps": [],
        "notices": [],
    }


def test_logs_that_cannot_be_had(stage: Stage) -> None:
    result = stage.jaas("logs", stage.add())
    assert result.exit_code == 125
    assert result.stderr == "jaas: output unavailable: the job is QUEUED; output is stored when it has ended\n"
    result = stage.jaas("logs", "--attempt", "2", stage.add(end=ended()))
    assert result.exit_code == 2
    assert "no attempt 2" in result.stderr


def test_list(stage: Stage) -> None:
    stage.add(JobSpec(image="alpine", labels={"team": "a", "run": "1"}), ended())
    stage.add(JobSpec(image="alpine", labels={"team": "b"}), ended(Cause.IMAGE, None, "No such image: nope"))
    stage.add(JobSpec(image="alpine", command=["x" * 100], labels={"team": "a"}))
    table = [re.split(r"  +", line) for line in stage.jaas("list").stdout.splitlines()]
    assert table[0] == ["ID", "STATE", "EXIT", "AGE", "RAN", "NODE", "BATCH", "JOB", "WHY"]
    assert [row[:3] for row in table[1:]] == [
        ["job-3", "QUEUED", "-"],
        ["job-2", "FAILED", "-"],
        ["job-1", "SUCCEEDED", "0"],
    ]
    assert table[2][4:] == ["1.5s", "node1", "-", "alpine", "image: No such image: nope"]
    assert table[1][-1] == "alpine " + "x" * 50 + "..."
    for args, expected in [
        ([], "3 2 1"),
        (["--limit", "2"], "3 2"),
        (["--state", "queued"], "3"),
        (["--label", "team=a"], "3 1"),
        (["--label", "team"], "3 2 1"),
        (["--label", "team=a", "--label", "run"], "1"),
        (["--label", "team=a", "--limit", "1"], "3"),
        (["--state", "SUCCEEDED", "--label", "team=b"], ""),
        (["--filter", "label=team=a", "--filter", "state=queued"], "3"),
        (["--filter", "cause=image"], "2"),
        (["--filter", "exit=0", "--filter", "node=node*", "--filter", "image=alp*"], "1"),
        (["--since", "1h", "-n", "1"], "3"),
        (["--until", "1h"], ""),
        (["-o", "name"], "3 2 1"),
    ]:
        ids = stage.jaas("list", "-q", *args).stdout.split()
        assert ids == [f"job-{number}" for number in expected.split()], args
    records = [json.loads(line) for line in stage.jaas("list", "--json").stdout.splitlines()]
    assert [r["id"] for r in records] == ["job-3", "job-2", "job-1"]
    assert records[0]["spec"] == {"version": 1, "image": "alpine", "command": ["x" * 100], "labels": {"team": "a"}}
    assert json.loads(stage.jaas("list", "-o", "json").stdout) == records
    assert stage.jaas("list", "-o", "wide").stdout.splitlines()[0].split() == table[0]
    assert stage.jaas("list", "--label", "nope").stdout == ""


def test_times_are_those_of_this_machine_with_the_offset(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = stage.add(end=ended())
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert "started:   2026-11-23 21:00:00.000+09:00" in stage.jaas("status", job_id).stdout
    finally:
        monkeypatch.undo()
        time.tzset()


def test_cancel(stage: Stage) -> None:
    queued, running, done = stage.add(), stage.add(), stage.add(end=ended())
    stage.launch(running)
    result = stage.jaas("cancel", "--reason", "enough", queued, running, done)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "job-1: cancelled",
        "job-2: is RUNNING; its worker stops the container",
        "job-3: had ended already: SUCCEEDED",
    ]
    assert stage.ledger.queries.get(queued).state == "CANCELLED"
    assert stage.ledger.queries.get(running).cancel == "enough"
    assert json.loads(stage.jaas("cancel", "--json", done).stdout) == {"id": done, "state_before": "SUCCEEDED"}
    assert stage.jaas("cancel", "-q", done).output == ""


def test_cancel_says_that_a_container_runs_on_without_a_worker(stage: Stage) -> None:
    running = stage.add()
    stage.launch(running)
    assert stage.jaas("cancel", running).stderr == ""
    stage.ledger.maintenance.drop_lease(HOLDER)
    said = stage.jaas("cancel", running).stderr
    assert said == "jaas: no worker is alive: containers run on until one is back and stops them\n"


# -- what all commands share ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ((), 2, "Usage: jaas"),
        (("nope",), 2, "there is no command 'nope' (see `jaas --help`)"),
        (("run",), 2, "no image given"),
        (("run", "--colour", "red", "alpine"), 2, "--colour"),
        (("run", "--remove=perhaps", "alpine"), 2, "--remove: takes true or false"),
        (("run", "ALPINE"), 2, "image: "),
        (("submit", "-e", "=1", "alpine"), 2, "env"),
        (("wait", "--timeout", "soon", "x"), 2, "--timeout: give seconds"),
        (("list", "--state", "DANCING"), 2, "DANCING"),
        (("--redis", "http://x", "list"), 2, "Redis URL"),
        (("list", "--redis", "redis://127.0.0.1:1"), 125, "Redis does not answer"),
        (("--redis", "redis://127.0.0.1:1", "run", "alpine"), 125, "check --redis or JAAS_REDIS_URL"),
        (("status", "nope"), 125, "no job nope is known"),
        (("wait", "nope"), 125, "no job nope is known"),
        (("logs", "nope"), 125, "no job nope is known"),
    ],
)
def test_an_error_is_one_sentence_on_stderr(stage: Stage, args: tuple[str, ...], code: int, text: str) -> None:
    result = stage.jaas(*args)
    assert result.exit_code == code
    assert result.stdout == ""
    assert text in result.stderr
    if args:
        assert result.stderr.startswith("jaas: ")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "args", [("run", "ALPINE"), ("submit", "-i", "a", "-e", "=x"), ("run", "--limit-cpu", "x", "a")]
)
def test_a_bad_description_is_refused_before_redis_is_asked(args: tuple[str, ...]) -> None:
    result = click.testing.CliRunner().invoke(cli, ["--redis", "redis://127.0.0.1:1", *args], prog_name="jaas")
    assert result.exit_code == 2


def test_a_defect_of_ours_is_one_sentence_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_submit.ledger.queries.Queries.ids", lambda *_: 1 / 0)
    result = stage.jaas("list")
    assert result.exit_code == 125
    assert (
        result.stderr
        == "jaas: internal error: ZeroDivisionError: division by zero; JAAS_DEBUG=1 shows where, please report it\n"
    )
    monkeypatch.setenv("JAAS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        stage.jaas("list")


def test_which_installation_is_meant_can_be_said_before_and_after_the_command(stage: Stage) -> None:
    job_id = stage.add()
    url, prefix = stage.environ.pop("JAAS_REDIS_URL"), stage.environ.pop("JAAS_PREFIX")
    assert url
    assert prefix
    stage.environ |= {"JAAS_REDIS_URL": None, "JAAS_PREFIX": "elsewhere", "CELERY_BROKER_URL": "redis://127.0.0.1:1"}
    options = ("--redis", url, "--prefix", prefix)
    for args in ((*options, "list", "-q"), ("list", "-q", *options), (*options[:2], "list", "-q", *options[2:])):
        assert stage.jaas(*args).stdout == f"{job_id}\n"
    job = stage.jaas(*options, "--queue", f"{prefix}-other", "submit", "-q", "alpine").stdout.strip()
    assert stage.ledger.queries.get(job).queue == f"{prefix}-other"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_say_how_to_install_them(stage: Stage, shell: str) -> None:
    result = stage.jaas("completion", shell)
    assert result.exit_code == 0
    assert result.stdout.startswith("# To install: ")
    assert "_JAAS_COMPLETE" in result.stdout


def test_the_tab_key_knows_commands_options_and_jobs(stage: Stage) -> None:
    def complete(*words: str) -> list[str]:
        stage.environ |= {"_JAAS_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("jaas", *words))}
        stage.environ["COMP_CWORD"] = str(len(words))
        return re.findall(r"^plain,(.*)$", stage.jaas().stdout, re.MULTILINE)

    stage.add()
    assert complete("can") == ["cancel"]
    assert "--show-logs" in complete("run", "--show")
    assert complete("logs", "jo") == ["job-1"]
    assert complete("list", "--state", "run") == ["running"]
    stage.environ["JAAS_REDIS_URL"] = "redis://127.0.0.1:1"
    assert complete("logs", "jo") == []


def test_help_loads_neither_celery_nor_redis() -> None:
    """It would take three times as long, and so would each press of the TAB key."""
    heavy = {"celery", "redis", "pydantic", "rich", "docker"}
    code = f"import sys, jaas_submit.cli.main; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_the_documentation_has_every_command_and_option() -> None:
    docs = Path(__file__).parents[3] / "docs"
    text = "".join((docs / name).read_text() for name in ("cli.md", "service-options.md"))
    ctx = click.Context(cli)
    for name in cli.list_commands(ctx):
        command = cli.get_command(ctx, name)
        assert command is not None
        assert f"| `{name}" in text, name
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                words = (*option.opts, *option.secondary_opts)
                assert any(word in text for word in words if word.startswith("--")), f"{name} {words}"


def test_the_version_is_printed() -> None:
    result = click.testing.CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.stdout[:5]) == (0, "jaas ")


def test_worker_hands_its_options_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings by environment, Celery's own options as they are."""
    import os

    import jaas_worker.app

    seen: list[Any] = []
    names = ("JAAS_REDIS_URL", "JAAS_QUEUE", "JAAS_PREFIX", "JAAS_MAX_IN_FLIGHT", "JAAS_REDIS_URL_FILE")

    def worker_main(arguments: list[str]) -> None:
        seen.append((arguments, *(os.environ.get(name) for name in names)))

    monkeypatch.setattr(jaas_worker.app, "worker_main", worker_main)
    for name in names:
        monkeypatch.setenv(name, "x")
    line = (
        "--redis redis://r worker --queue q --prefix p --max-in-flight 7 --log-level DEBUG --name a@b -- -E --pidfile=x"
    )
    result = click.testing.CliRunner().invoke(cli, line.split(), catch_exceptions=False)
    assert result.exit_code == 0
    assert seen == [(["--loglevel=DEBUG", "--hostname=a@b", "-E", "--pidfile=x"], "redis://r", "q", "p", "7", None)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--detach", "--detach is not for workers of jaas: run the worker under a supervisor"),
        ("-El info -D", "--detach is not"),
        ("-B", "--beat is not for workers of jaas: run `celery beat`"),
        ("--autoscale=10,1", "--autoscale is not"),
        ("-c 4", "--concurrency is not"),
        ("-P threads", "--pool is not"),
        ("-Q mine", "--queues is not for workers of jaas: JAAS_QUEUE"),
        ("--time-limit 5", "--time-limit is not for workers of jaas: it would not reach the container"),
        ("--no-such-option", "No such option"),
    ],
)
def test_worker_refuses_options_of_celery_that_cannot_work(
    arguments: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jaas_worker.app

    monkeypatch.setattr(jaas_worker.app, "create_app", lambda: pytest.fail("it was started"))
    result = click.testing.CliRunner().invoke(cli, ["worker", "--", *arguments.split()], prog_name="jaas")
    assert result.exit_code == 2
    assert result.stderr.startswith("jaas: ")
    assert says.lower() in result.stderr.lower()


def test_worker_on_an_engine_that_is_no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    import jaas_worker.app

    def refuse(_: list[str]) -> None:
        raise NotAManager("the engine at unix:///x is not in a swarm: run `docker swarm init` there")

    monkeypatch.setattr(jaas_worker.app, "worker_main", refuse)
    result = click.testing.CliRunner().invoke(cli, ["worker"], prog_name="jaas")
    assert result.exit_code == 125
    assert result.stderr == "jaas: the engine at unix:///x is not in a swarm: run `docker swarm init` there\n"


def test_a_listener_without_redis_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_worker.telemetry.logging_setup.set_up", lambda *_: None)
    for name in ("JAAS_REDIS_URL", "JAAS_REDIS_URL_FILE"):
        monkeypatch.setenv(name, "x")  # is put back after the test
    line = f"--redis redis://127.0.0.1:{free_port()} agent"
    result = click.testing.CliRunner().invoke(cli, line.split(), prog_name="jaas")
    assert result.exit_code == 125
    assert result.stderr.startswith("jaas: identity: Redis does not answer")


@pytest.mark.parametrize(("command", "module"), [("worker", "jaas_worker.app"), ("agent", "jaas_worker.agent.process")])
def test_without_the_workers_packages_it_says_what_to_install(
    command: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = click.testing.CliRunner().invoke(cli, [command], prog_name="jaas")
    assert result.exit_code == 125
    assert "pip install '.[worker]'" in result.stderr


def test_a_queue_that_redis_refuses_is_no_traceback(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'.")

    monkeypatch.setattr(redis.Redis, "evalsha", refuse)
    result = stage.jaas("submit", "alpine")
    assert result.exit_code == 125
    assert "Redis refuses (OOM" in result.stderr
