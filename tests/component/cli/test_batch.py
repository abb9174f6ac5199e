"""`jaas map` and `jaas batch`, with the worker's part played in a real ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click.testing
import pytest

from jaas_submit import BatchRecord, JobState, LedgerUnavailable
from jaas_submit.cli.follow_batch import standing_line
from jaas_submit.cli.input_files import read_batch_file, read_inputs
from jaas_submit.cli.main import cli
from jaas_submit.connection import Subscription
from jaas_submit.ledger import Ledger
from jaas_submit.model.causes import Cause
from jaas_submit.model.logs import LogLine, Logs
from jaas_submit.model.records import Attempt
from tests.support.stage import on_submit

HOLDER = "w"


class Stage:
    """Runs the command line; what is published is run at once: a job that has "bad" in its command fails."""

    def __init__(self, ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger = ledger
        self.environ = {
            "JAAS_REDIS_URL": url,
            "JAAS_PREFIX": ledger.prefix,
            "JAAS_QUEUE": ledger.prefix,
            "JAAS_REDIS_URL_FILE": None,
            "JAAS_STORE_URL": None,
        }
        self.idle = False
        ledger.maintenance.renew_lease(HOLDER, 3600, {})
        on_submit(monkeypatch, self.run_all)

    def run_all(self, _: Sequence[str] = ()) -> None:
        while not self.idle and (ids := self.ledger.queries.ids(JobState.QUEUED, 1000)):
            for job_id in reversed(ids):
                self.run(job_id)

    def run(self, job_id: str) -> None:
        assert self.ledger.ownership.claim(job_id, HOLDER).action == "launch"
        assert self.ledger.ownership.move(job_id, HOLDER, JobState.PENDING)
        spec = self.ledger.queries.get(job_id).spec
        assert spec is not None
        words = " ".join(spec.command or ())
        bad = "bad" in words
        end = Attempt(
            number=1,
            state=JobState.FAILED if bad else JobState.SUCCEEDED,
            cause=Cause.EXIT,
            exit_code=4 if bad else 0,
            container_id="c",
        )
        output = json.dumps(spec.input if spec.input is not None else words)
        logs = Logs((LogLine("t", "stdout", words.encode()),))
        assert self.ledger.ownership.finish(job_id, HOLDER, [end], logs, None if bad else output)

    def jaas(self, *args: str, stdin: str | None = None) -> click.testing.Result:
        return click.testing.CliRunner().invoke(
            cli, list(args), input=stdin, env=self.environ, prog_name="jaas", catch_exceptions=False
        )


@pytest.fixture
def stage(ledger: Ledger, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(ledger, redis_url, monkeypatch)


def lines(result: click.testing.Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- jaas map ---------------------------------------------------------------------------------------------------------


def test_a_job_for_each_line_and_a_line_for_each_result(stage: Stage) -> None:
    result = stage.jaas("map", "--inputs", "-", "alpine", "--", "echo", "{item}", stdin="one\n\ntwo words\r\nthree")
    assert result.exit_code == 0, result.stderr
    assert sorted((line["index"], line["output"]) for line in lines(result)) == [
        (0, "echo one"),
        (1, "echo two words"),
        (2, "echo three"),
    ]
    assert set(lines(result)[0]) == {
        *("index", "job_id", "node", "state", "exit_code", "cause", "reason", "duration", "output"),
    }
    (record,) = stage.ledger.batches.recent()
    first, *_, last = result.stderr.splitlines()
    assert first == f"jaas: batch {record.id}"
    assert last == "jaas: 3 of 3 ended, 3 succeeded"


def test_the_exit_code_tells_whether_the_quorum_was_met(stage: Stage) -> None:
    inputs = "good\nbad\ngood\ngood\n"
    failed = stage.jaas("map", "--inputs", "-", "alpine", "{item}", stdin=inputs)
    assert failed.exit_code == 1
    assert "jaas: input 1: job " in failed.stderr
    assert "3 of 4 jobs succeeded, 4 needed" in failed.stderr
    assert "1 x exit code 4" in failed.stderr
    assert [line["state"] for line in lines(failed) if line["index"] == 1] == ["FAILED"]
    enough = stage.jaas("map", "--inputs", "-", "--min-success", "0.75", "alpine", "{item}", stdin=inputs)
    assert enough.exit_code == 0


def test_quiet_prints_results_only_and_json_all_of_them(stage: Stage) -> None:
    result = stage.jaas("map", "-q", "--inputs", "-", "alpine", "{item}", stdin="a\n")
    assert (result.exit_code, result.stderr) == (0, "")
    full = stage.jaas("map", "-q", "--json", "--inputs", "-", "alpine", "{item}", stdin="a\n")
    assert {"attempts", "logs", "queued_at"} <= lines(full)[0].keys()


def test_many_failures_are_not_all_shown(stage: Stage) -> None:
    result = stage.jaas("map", "--inputs", "-", "alpine", "bad", stdin="x\n" * 30)
    assert result.stderr.count("jaas: input ") == 10
    assert "further failures are not shown" in result.stderr
    assert len(lines(result)) == 30


def test_a_reduce_gets_what_the_maps_returned(stage: Stage) -> None:
    result = stage.jaas(
        *("map", "--inputs", "-", "--reduce-image", "adder", "--reduce-command", "add 'all of it'", "--fan-in", "2"),
        *("--output", "json", "alpine", "{item}"),
        stdin="1\n2\n3\n",
    )
    assert result.exit_code == 0, result.stderr
    assert len(lines(result)) == 4
    final = stage.ledger.queries.get(lines(result)[-1]["job_id"]).spec
    assert final is not None
    assert (final.image, final.entrypoint, final.output) == ("adder", ("add", "all of it"), "json")
    assert final.gather is not None
    assert final.gather.count == 2


def test_too_few_maps_and_the_reduce_is_skipped(stage: Stage) -> None:
    result = stage.jaas("map", "--inputs", "-", "--reduce-image", "adder", "alpine", "{item}", stdin="1\nbad\n")
    assert result.exit_code == 1
    assert lines(result)[-1]["state"] == "SKIPPED"


def test_the_same_key_adds_nothing_and_prints_the_same(stage: Stage) -> None:
    args = ["map", "--key", "k", "--inputs", "-", "alpine", "{item}"]
    first, second = (stage.jaas(*args, stdin="1\n2\n") for _ in range(2))
    assert first.stdout == second.stdout
    assert len(stage.ledger.queries.ids()) == 2


def test_detached_it_prints_the_id_and_waits_for_nothing(stage: Stage) -> None:
    stage.idle = True
    result = stage.jaas("map", "--detach", "--max-parallel", "2", "--inputs", "-", "alpine", stdin="1\n2\n3\n")
    assert result.exit_code == 0
    status = stage.ledger.batches.get(result.stdout.strip())
    assert status.counts == {JobState.QUEUED: 2, JobState.WAITING: 1}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["alpine"], "--inputs FILE (or - for standard input) is missing"),
        (["--inputs", "/does/not/exist", "alpine"], "/does/not/exist: No such file"),
        (["--inputs", "-", "--input", "1", "alpine"], "--input is for one job"),
        (["--inputs", "-", "--fan-in", "2", "alpine"], "need --reduce-image"),
        (["--inputs", "-", "--min-success", "2", "alpine"], "--min-success"),
        (["--inputs", "-", "ALPINE"], "image"),
        (["--inputs", "-", "--format", "jsonl", "alpine"], "-, line 2: is not valid JSON"),
        (["--inputs", "-", "alpine", "{item.a}"], "input 0 has no {item.a}"),
        (["--inputs", "-", "--speculate", "2", "alpine"], "say idempotent=True in the description"),
        (["--inputs", "-", "--speculate", "1", "--idempotent", "alpine"], "must be more than 1, not 1.0"),
        (["--file", "/does/not/exist.yaml"], "/does/not/exist.yaml: No such file"),
        (["--file", "x.yaml", "alpine"], "--file describes the jobs already"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing_running(stage: Stage, args: list[str], message: str) -> None:
    stage.idle = True
    result = stage.jaas("map", *args, stdin="1\n{oops\n")
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert stage.ledger.queries.counts()[JobState.QUEUED] == 0


def test_a_bad_input_cancels_what_was_submitted_before_it(stage: Stage) -> None:
    stage.idle = True
    text = "1\n" * 700 + "{oops\n"
    result = stage.jaas("map", "--inputs", "-", "--format", "jsonl", "alpine", stdin=text)
    assert result.exit_code == 2
    assert "-, line 701: is not valid JSON" in result.stderr
    assert "has been cancelled" in result.stderr
    (record,) = stage.ledger.batches.recent()
    assert record.counts == {JobState.CANCELLED: 500}
    kept = stage.jaas("map", "--key", "k", "--inputs", "-", "--format", "jsonl", "alpine", stdin=text)
    assert "with the same key, goes on with it" in kept.stderr
    assert stage.ledger.batches.recent()[0].counts == {JobState.QUEUED: 500}


def test_ctrl_c_leaves_the_batch_where_there_is_no_terminal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from jaas_submit.client.session import Session

    stage.idle = True

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "run", interrupted)
    result = stage.jaas("map", "--inputs", "-", "alpine", stdin="1\n")
    assert result.exit_code == 130
    (record,) = stage.ledger.batches.recent()
    assert f"`jaas batch cancel {record.id}`" in result.stderr
    assert record.counts == {JobState.QUEUED: 1}


@pytest.mark.parametrize(
    ("answer", "state"), [("c", JobState.CANCELLED), ("l", JobState.QUEUED), ("", JobState.QUEUED)]
)
def test_ctrl_c_asks_on_a_terminal(stage: Stage, monkeypatch: pytest.MonkeyPatch, answer: str, state: JobState) -> None:
    from jaas_submit.cli import follow_batch
    from jaas_submit.client.session import Session

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    class Sys:
        stdin = stderr = Terminal

    def interrupted(*_: object, **__: object) -> None:
        monkeypatch.setattr(follow_batch, "sys", Sys)
        raise KeyboardInterrupt

    stage.idle = True
    monkeypatch.setattr(Session, "run", interrupted)
    monkeypatch.setattr(click, "prompt", lambda text, default, err: answer or default)
    path = Path(__file__)
    result = stage.jaas("map", "--key", answer + "k", "--inputs", str(path), "--format", "lines", "alpine")
    assert result.exit_code == 130
    (record,) = stage.ledger.batches.recent()
    assert set(record.counts) == {state}


def test_following_a_batch_outlasts_a_redis_that_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_submit.client.wait.RETRY_PAUSE_S", 0.0)
    stage.idle = True
    failures = [LedgerUnavailable("gone")] * 3

    def shaky(_: Subscription, timeout: float) -> str | None:
        if failures:
            raise failures.pop()
        stage.idle = False
        stage.run_all()
        return None

    monkeypatch.setattr(Subscription, "next", shaky)
    result = stage.jaas("map", "--inputs", "-", "alpine", "--", "echo", "{item}", stdin="1\n2\n")
    assert result.exit_code == 0, result.stderr
    assert [line["state"] for line in lines(result)] == ["SUCCEEDED"] * 2
    assert result.stderr.count("Redis does not answer; the jobs go on") == 3  # one outage after another


def test_a_redis_that_stays_away_ends_the_following_of_a_batch(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaas_submit.client.wait.RETRY_PAUSE_S", 0.0)
    monkeypatch.setattr("jaas_submit.client.wait.REDIS_OUTAGE_TIMEOUT_S", 0.05)
    stage.idle = True

    def broken(_: Subscription, timeout: float) -> str | None:
        monkeypatch.setattr("jaas_submit.ledger.batches.Batches.get", broken_read)
        raise LedgerUnavailable("gone")

    def broken_read(_: Ledger, batch_id: str) -> BatchRecord:
        raise LedgerUnavailable("gone")

    monkeypatch.setattr(Subscription, "next", broken)
    result = stage.jaas("map", "--inputs", "-", "alpine", stdin="1\n")
    assert result.exit_code == 125
    assert "gone; the jobs go on: `jaas batch watch " in result.stderr


# -- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "inputs"),
    [
        ("a.txt", "a\n\n  b \n", ["a", "  b "]),
        ("a", "\ufeffa\r\nb", ["a", "b"]),
        ("a.jsonl", '1\n\n{"a": [null]}\n"x"', [1, {"a": [None]}, "x"]),
        (
            "a.csv",
            'name,n\n"Smith, J",1\n"two\nlines",2\n',
            [{"name": "Smith, J", "n": "1"}, {"name": "two\nlines", "n": "2"}],
        ),
        ("a.JSON", '[1, "b"]', [1, "b"]),
        ("empty.txt", "", []),
        ("empty.csv", "", []),
    ],
)
def test_files_of_inputs(tmp_path: Path, name: str, text: str, inputs: list[Any]) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert list(read_inputs(str(path))) == inputs


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "1\n{\n", "a.jsonl, line 2: is not valid JSON"),
        ("a.csv", "a,b\n1,2\n3\n", "a.csv, line 3: has not as many values as the first line names"),
        ("a.csv", "a,b\n1,2,3\n", "a.csv, line 2: has not as many values"),
        ("a.json", "{}", "must hold a JSON list"),
        ("a.json", "[", "is not valid JSON"),
        ("a.txt", "\udcff", "is no UTF-8 text"),
    ],
)
def test_bad_inputs_name_the_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(click.UsageError, match=message):
        list(read_inputs(str(path)))


# -- batch files ------------------------------------------------------------------------------------------------------

GOOD = """\
# a comment
name: crawl
job:
  image: alpine
  command: [echo, "{item.url}"]
  env:
    A: "1"
  output: json
inputs:
  - url: http://a
  - url: http://b
reduce:
  image: adder
  output: json
min_success: 0.9
max_parallel: 5
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def make(text: str, name: str = "batch.yaml") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return make


def test_a_batch_file_is_run(stage: Stage, write: Callable[..., str]) -> None:
    result = stage.jaas("map", "--file", write(GOOD))
    assert result.exit_code == 0, result.stderr
    assert len(lines(result)) == 3
    record = stage.ledger.batches.recent()[-1]
    assert (record.name, record.max_parallel, record.min_success, record.total) == ("crawl", 5, 0.9, 2)


def test_options_win_over_the_file(stage: Stage, write: Callable[..., str]) -> None:
    more = write("http://x\n", "urls.txt")
    path = write(GOOD.replace("{item.url}", "{item}"))
    result = stage.jaas("map", "--file", path, "--inputs", more, "--max-parallel", "1")
    assert result.exit_code == 0, result.stderr
    assert len(lines(result)) == 2
    assert stage.ledger.batches.recent()[-1].max_parallel == 1


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("-e", "A=1"), "-e: with --file"),
        (("--limit-memory", "1G"), "--limit-memory"),
        (("--reduce-command", "x"), "--reduce-c"),
    ],
)
def test_what_describes_the_jobs_is_not_given_twice(
    stage: Stage, write: Callable[..., str], option: tuple[str, str], named: str
) -> None:
    result = stage.jaas("map", "--file", write(GOOD), *option)
    assert result.exit_code == 2
    assert named in result.stderr
    assert "the file describes the jobs" in result.stderr


def test_inputs_may_be_beside_the_file_and_it_may_be_json(write: Callable[..., str]) -> None:
    write('{"n": 1}\n', "in.jsonl")
    read = read_batch_file(write('{"job": {"image": "a"},\n\t"inputs_file": "in.jsonl"}', "batch.json"))
    assert list(read.inputs()) == [{"n": 1}]
    assert read.reduce is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: crawl", "nam: crawl", "line 2: nam: is no field of a batch file; there are job, inputs"),
        ("  image: alpine", "  image: ALPINE", "line 4: job.image: is no image reference"),
        ("  image: alpine", "  imag: alpine", "line 4: job.imag: is no field of a job description"),
        ("[echo,", "[echo, 1,", "line 5: job.command.1: must be a text"),
        ('A: "1"', "A: 1", "line 7: job.env.A: must be a text"),
        ("  output: json\nmin", "  output: yaml\nmin", "line 14: reduce.output:"),
        ("min_success: 0.9", "min_success: 9", "line 15: min_success: must be 1 at most"),
        ("min_success: 0.9", "speculate: {factor: 0.5}", "line 15: speculate.factor: must be more than 1"),
        ("inputs:\n", "inputs: 3\nx:\n", "line 9: inputs: must be a list"),
        ("name: crawl", "name: [crawl", "line "),
        (GOOD, "- a", "must hold an object"),
        (GOOD, "", "must hold an object"),
    ],
)
def test_errors_in_a_batch_file_name_the_line(write: Callable[..., str], old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(click.UsageError) as caught:
        read_batch_file(write(GOOD.replace(old, new)))
    assert message in caught.value.format_message()


def test_errors_in_a_json_file_name_the_line(write: Callable[..., str]) -> None:
    with pytest.raises(click.UsageError, match="line 2: Expecting"):
        read_batch_file(write('{"job": {"image": "a"},\n}', "batch.json"))
    with pytest.raises(click.UsageError, match=r"line 3: job\.image"):
        read_batch_file(write('{"job":\n{\n"image": ""}}', "batch.json"))


def test_a_batch_file_without_inputs(stage: Stage, write: Callable[..., str]) -> None:
    result = stage.jaas("map", "--file", write("job: {image: a}"))
    assert result.exit_code == 2
    assert "has neither inputs nor inputs_file" in result.stderr


# -- jaas batch -------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(stage: Stage) -> str:
    stage.jaas("map", "--name", "two", "--inputs", "-", "alpine", "{item}", stdin="good\nbad\n")
    return stage.ledger.batches.recent()[0].id


def test_batch_list_and_status(stage: Stage, made: str) -> None:
    table = stage.jaas("batch", "list").stdout.splitlines()
    assert table[0].split()[:4] == ["ID", "STATE", "AGE", "JOBS"]
    assert made in table[1]
    assert "two" in table[1]
    assert stage.jaas("batch", "list", "-q").stdout == f"{made}\n"
    assert lines(stage.jaas("batch", "list", "--json"))[0]["counts"] == {"SUCCEEDED": 1, "FAILED": 1}
    shown = stage.jaas("batch", "status", made).stdout
    assert "1 of 2 jobs succeeded, 2 needed" in shown
    assert "1 x exit code 4" in shown
    assert stage.jaas("batch", "status", "-q", made).stdout == "FAILED\n"
    assert lines(stage.jaas("batch", "status", "--json", made))[0]["total"] == 2


def test_batch_results_and_watch(stage: Stage, made: str) -> None:
    assert [line["index"] for line in lines(stage.jaas("batch", "results", made))] == [0, 1]
    assert [line["index"] for line in lines(stage.jaas("batch", "results", "--failed", made))] == [1]
    watched = stage.jaas("batch", "watch", made)
    assert (watched.exit_code, watched.stdout) == (1, "")
    assert "2 of 2 ended" in watched.stderr


def test_batch_retry(stage: Stage, made: str) -> None:
    again = stage.jaas("batch", "retry", "-e", "A=b", "--limit-memory", "64M", made).stdout.strip()
    (record,) = stage.ledger.queries.find(
        [job for job in stage.ledger.queries.ids() if stage.ledger.queries.get(job).batch == again]
    )
    assert record.spec is not None
    assert (record.spec.env["A"], record.spec.env["JAAS_BATCH_ID"]) == ("b", made)
    assert record.spec.limits.memory == 64 * 2**20
    assert stage.jaas("batch", "watch", "-q", again).exit_code == 1


def test_batch_cancel(stage: Stage) -> None:
    stage.idle = True
    made = stage.jaas("map", "--detach", "--inputs", "-", "alpine", stdin="1\n2\n").stdout.strip()
    assert stage.jaas("batch", "cancel", made).stdout == f"{made}: 2 jobs cancelled\n"
    assert stage.ledger.batches.get(made).state is JobState.CANCELLED
    assert stage.jaas("batch", "cancel", made).stdout == f"{made}: 0 jobs cancelled\n"


@pytest.mark.parametrize("verb", ["status", "watch", "results", "retry", "cancel"])
def test_a_batch_that_is_not_known(stage: Stage, verb: str) -> None:
    result = stage.jaas("batch", verb, "nope")
    assert result.exit_code == 125
    assert "jaas: no batch nope is known" in result.stderr


def test_how_a_batch_stands_in_one_line(ledger: Ledger) -> None:
    ledger.batches.create("b")
    fresh = ledger.batches.get("b")
    counts = {JobState.RUNNING: 3, JobState.SUCCEEDED: 1000, JobState.FAILED: 0}

    def line(status: BatchRecord, ended: int = 0) -> str:
        return standing_line(status, ended, 10.0)

    assert line(fresh) == "0 of 0+ ended"
    half = fresh.model_copy(update={"size": 2000, "total": 2000, "counts": counts})
    assert line(half, 100) == "1,000 of 2,000 ended, 3 running, 1,000 succeeded, 10.0/s, 1m40s left"
    assert line(half) == "1,000 of 2,000 ended, 3 running, 1,000 succeeded"


def test_inputs_that_cannot_be_read_leave_no_batch(stage: Stage) -> None:
    result = stage.jaas("map", "--inputs", "/nofile", "alpine", "{item}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "jaas: /nofile: No such file or directory (see `jaas map --help`)\n"
    assert stage.jaas("batch", "list", "-q").stdout == ""


# -- the same key again, in place, and rules --------------------------------------------------------------------------


def inputs_of(result: click.testing.Result) -> list[str]:
    """Return what the jobs were given whose results a command printed."""
    return [json.loads(line)["output"] for line in result.stdout.splitlines()]


def test_a_key_again_runs_what_is_new(stage: Stage) -> None:
    args = ("map", "--inputs", "-", "--key", "nightly", "alpine", "{item}")
    assert stage.jaas(*args, stdin="b\nc\n").exit_code == 0
    again = stage.jaas(*args[:-2], "busybox", "{item}", stdin="a\nb\n")
    assert again.exit_code == 0
    assert "1 of its inputs had a job already" in again.stderr
    assert "jobs that are there keep their image" in again.stderr
    assert "1 ended jobs count no more, because this call does not have their inputs" in again.stderr
    assert sorted(inputs_of(again)) == ["a", "b"]
    (record,) = stage.ledger.batches.recent()
    assert inputs_of(stage.jaas("batch", "results", record.id)) == ["a", "b"]
    by_field = ("map", "--inputs", "-", "--format", "jsonl", "--key", "k", "--key-of", "id", "alpine", "{item.id}")
    assert stage.jaas(*by_field, stdin='{"id": 1}\n{"id": 2}\n').exit_code == 0
    told = stage.jaas(*by_field, stdin='{"id": 2, "new": 1}\n{"id": 3}\n').stderr
    assert "1 inputs have a known key and other content" in told
    assert "--key-of: an input has no field 'id'" in stage.jaas(*by_field, stdin='{"ID": 2}\n').stderr


def test_a_rule_stops_a_map_and_again_starts_it(stage: Stage) -> None:
    args = ("map", "--key", "k", "--max-failures", "0", "--max-parallel", "1", "--inputs", "-")
    stage.idle = True
    assert stage.jaas(*args, "--detach", "alpine", "{item}", stdin="bad\nx\n").exit_code == 0
    (record,) = stage.ledger.batches.recent()
    stage.run(stage.ledger.queries.ids(JobState.QUEUED)[0])
    stage.ledger.batches.cancel_jobs(record.id)
    why = "stopped by max_failures: 1 jobs failed, at most 0 may"
    assert stage.jaas("batch", "watch", record.id).exit_code == 1
    assert why in stage.jaas("batch", "status", record.id).stdout
    refused = stage.jaas(*args, "alpine", "{item}", stdin="bad\nx\n")
    assert (refused.exit_code, f"has ended early ({why}); again=True (--again)" in refused.stderr) == (2, True)
    stage.idle = False
    good = stage.jaas(*args, "--again", "alpine", "ok {item}", stdin="bad\nx\n")
    assert good.exit_code == 1, "its command is bad still"
    assert stage.ledger.batches.get(record.id).cancelled == why


def test_replay_in_place_and_the_reduce(stage: Stage) -> None:
    args = ("map", "--inputs", "-", "--reduce-image", "adder", "alpine", "{item}")
    assert stage.jaas(*args, stdin="1\nbad\n").exit_code == 1
    reduce, maps = stage.ledger.batches.recent()
    assert reduce.reduces == maps.id
    (failed,) = stage.ledger.queries.ids(JobState.FAILED)
    retried = stage.jaas("replay", "--in-place", "--input", '{"n": 7}', "--json", failed)
    assert json.loads(retried.stdout)["replay_of"] == failed
    made = stage.ledger.queries.get(json.loads(retried.stdout)["id"])
    assert (made.spec and made.spec.input, made.batch, made.index) == ({"n": 7}, maps.id, 1)
    # Its command is bad still, so that it failed again; another one in its place does not.
    stage.ledger.batches.cancel(maps.id, "")
    assert stage.jaas("replay", "--in-place", "--set", "image=b", failed).exit_code == 0
    lone = stage.jaas("submit", "--detach", "alpine").stdout.strip()
    assert f"in_place: job {lone} has no place in a batch" in stage.jaas("replay", "--in-place", lone).stderr


def test_a_map_reduce_by_its_id(stage: Stage) -> None:
    stage.jaas("map", "--inputs", "-", "--reduce-image", "adder", "alpine", "{item}", stdin="1\n2\n")
    reduce, maps = stage.ledger.batches.recent()
    watched = stage.jaas("batch", "watch", maps.id)
    assert (watched.exit_code, watched.stderr.count("1 of 1 ended")) == (0, 1)
    shown = stage.jaas("batch", "status", maps.id).stdout
    assert re.search(rf"^reducer: +{reduce.id}$", shown, re.MULTILINE)
    (line,) = stage.jaas("batch", "results", "--reduced", maps.id).stdout.splitlines()
    assert json.loads(line)["job_id"] == stage.ledger.queries.batch_job_ids(reduce.id, [0])[0]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--max-failures", "many"], "--max-failures: many is no limit; write a number of jobs such as 3, or a share"),
        (["--again"], "--again: needs --key"),
        (["--key-of", "id"], "--key-of: needs --key"),
    ],
)
def test_what_map_refuses_of_these(stage: Stage, args: list[str], text: str) -> None:
    result = stage.jaas("map", "--inputs", "-", *args, "alpine", "{item}", stdin="a\n")
    assert (result.exit_code, text in result.stderr) == (2, True), result.stderr
