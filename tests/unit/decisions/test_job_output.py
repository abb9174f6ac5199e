"""What a job returns, out of what it printed, and what a reduce job reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit import Cause, JobRecord, JobSpec, JobState, LogGap, LogLine, Logs, LogStatus
from jaas_submit.model.files.listing import OutputFile, OutputFiles
from jaas_submit.model.files.patterns import list_bytes
from jaas_submit.model.logs import Stream
from jaas_submit.model.records import Attempt, Outcome
from jaas_worker.decisions.job_output import output_not_kept, output_of, reduce_lines, with_listed_files, with_output

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WELL = Outcome(state=JobState.SUCCEEDED, cause=Cause.EXIT, exit_code=0)


def printed(stdout: str, stderr: str = "", status: LogStatus = LogStatus.COMPLETE) -> Logs:
    lines = [LogLine("t", "stderr", stderr.encode()), LogLine("t", "stdout", stdout.encode())]
    return Logs(tuple(line for line in lines if line.data), status, "" if status is LogStatus.COMPLETE else "why")


def returned(kind: str, logs: Logs | None) -> Any:
    output = output_of(JobSpec(image="a", output=kind), logs)
    assert (output.text is None) != (output.problem == ""), output
    return json.loads(output.text) if output.text is not None else output.problem


@pytest.mark.parametrize(
    ("stdout", "value"),
    [
        ("", ""),
        ("a\nb\n", "a\nb\n"),
        ("ä€😀", "ä€😀"),
        ('{"a": 1}\n', '{"a": 1}\n'),
    ],
)
def test_a_text_is_the_whole_standard_output(stdout: str, value: str) -> None:
    assert returned("text", printed(stdout, "said on stderr")) == value


@pytest.mark.parametrize(
    ("stdout", "value"),
    [
        ("1", 1),
        ("null\n", None),
        ('"text"\n', "text"),
        ("working ...\n{}\n[1, 2]\n", [1, 2]),
        ('{"a": 1}\r\n', {"a": 1}),
        ('{"a": 1}\n\n  \n', {"a": 1}),
        ('{\n  "a": [\n    1\n  ]\n}\n', {"a": [1]}),
        # the last line is JSON, and so is all of it: the line counts
        ("1\n", 1),
        ('"\\u2028"', "\u2028"),
        ('"\u2028"', "\u2028"),
        ('x\n"a\u2028b\u0085c"\n', "a\u2028b\u0085c"),
    ],
)
def test_json_is_the_last_line_or_all_of_it(stdout: str, value: Any) -> None:
    assert returned("json", printed(stdout, "noise\n")) == value


@pytest.mark.parametrize("stdout", ["", "\n", "hello\n", "{} done\n", "NaN", "[Infinity]\n", "[" * 100_000])
def test_what_is_no_json_is_a_problem(stdout: str) -> None:
    assert returned("json", printed(stdout)) == "the last line of its standard output is not JSON"


@pytest.mark.parametrize("stdout", ['"\\ud83d"\n', '{"\\udc00": 1}', '[\n"\\ud83d"\n]'])
def test_half_a_character_is_a_problem(stdout: str) -> None:
    assert returned("json", printed(stdout)).startswith("its output holds an unpaired surrogate")
    assert returned("json", printed('"\\ud83d\\ude00"')) == "😀"


def test_a_job_without_an_output_returns_nothing_whatever_it_prints() -> None:
    for logs in (None, printed("1"), printed("1", status=LogStatus.UNAVAILABLE)):
        assert output_of(JobSpec(image="a"), logs) == (None, "")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_output_that_could_not_be_read_is_a_problem(kind: str) -> None:
    assert returned(kind, printed("1", status=LogStatus.UNAVAILABLE)) == "its output could not be read: why"


def with_gap(before: bytes, after: bytes, status: LogStatus, *, stream: Stream = "stdout") -> Logs:
    lines = [LogLine("t", "stdout", before), LogLine("t", "stdout", after)]
    gap = LogGap(stream, 1 if after else 2, 5)
    return Logs(tuple(line for line in lines if line.data), status, "why", (gap,))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (LogStatus.TRUNCATED, "it printed too much to return as text"),
        (LogStatus.PARTIAL, "some of its output is missing"),
    ],
)
def test_output_with_a_gap_is_no_text(status: LogStatus, said: str) -> None:
    assert returned("text", with_gap(b"a", b"b", status)) == f"{said}: why"
    assert returned("text", with_gap(b"a", b"b", status, stream="stderr")) == "ab"


@pytest.mark.parametrize("status", [LogStatus.TRUNCATED, LogStatus.PARTIAL])
@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (b"lots\n1", b"2\n34\n", 34),
        (b"lots\n1", b"2\n", "the last line of its standard output is not JSON (why)"),  # its beginning is missing
        (b"[1", b"2]", "the last line of its standard output is not JSON (why)"),
        (b"12\n", b"", "some of its output is missing: why"),  # the end is
    ],
)
def test_the_last_line_behind_a_gap_may_be_json(before: bytes, after: bytes, found: Any, status: LogStatus) -> None:
    assert returned("json", with_gap(before, after, status)) == found


def test_output_with_replaced_bytes_is_returned_as_it_is() -> None:
    for kind in ("text", "json"):
        assert returned(kind, printed('"\ufffd"', status=LogStatus.PARTIAL)).strip('"') == "\ufffd"


def test_no_container_printed_nothing() -> None:
    assert returned("text", None) == ""


def test_a_job_that_does_not_return_what_it_declares_has_failed() -> None:
    spec = JobSpec(image="a", output="json")
    outcome, text = with_output(spec, WELL, printed("oops"), 100)
    assert (outcome.state, outcome.cause, outcome.exit_code, text) == (JobState.FAILED, Cause.OUTPUT, 0, None)
    assert outcome.reason == "the last line of its standard output is not JSON"


def test_an_output_is_capped_in_bytes() -> None:
    spec = JobSpec(image="a", output="json")
    assert with_output(spec, WELL, printed('"ää"'), 6) == (WELL, '"ää"')
    outcome, text = with_output(spec, WELL, printed('"ääa"'), 6)
    assert (outcome.cause, text) == (Cause.OUTPUT, None)
    assert outcome.reason == "its output has 7 bytes, more than the 6 allowed (JAAS_OUTPUT_LIMIT)"


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_ended_badly_returns_nothing(state: JobState) -> None:
    bad = Outcome(state=state, cause=Cause.EXIT, exit_code=4)
    assert with_output(JobSpec(image="a", output="json"), bad, printed("1"), 100) == (bad, None)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(value=values, noise=st.text(st.characters(exclude_categories=["Cs"])), escape=st.booleans())
def test_any_json_that_is_printed_comes_back(value: Any, noise: str, escape: bool) -> None:
    try:
        text = json.dumps(value, ensure_ascii=escape)
        text.encode()
    except UnicodeEncodeError:  # no container can print it
        return
    assert returned("json", printed(f"{noise}\n{text}\n")) == value


def record(index: int, state: JobState, output: Any = None) -> JobRecord:
    return JobRecord(
        id=f"j{index}", state=state, queue="q", created_at=NOON, updated_at=NOON, index=index, output=output
    )


@pytest.mark.parametrize(
    ("drivers", "kept"),
    [
        ({"n1": "none", "n2": "json-file"}, False),
        ({"n1": "local", "n2": "none"}, True),
        ({"n2": "none", "n3": "none"}, False),  # nobody has told of it: it is taken to be as the others
        ({"n2": "none", "n3": "json-file"}, True),
        ({}, True),
    ],
)
def test_an_engine_may_keep_no_output(drivers: dict[str, str], kept: bool) -> None:
    assert (output_not_kept("n1", drivers) == "") == kept


def test_a_reduce_job_reads_a_line_for_each_job() -> None:
    records = [
        record(0, JobState.SUCCEEDED, {"words": {"ä": 1}}),
        record(1, JobState.FAILED),
        record(2, JobState.SUCCEEDED, "two\nlines"),
    ]
    lines = b"".join(reduce_lines(records)).decode()
    assert lines.endswith("\n")
    assert [json.loads(line) for line in lines.split("\n")[:-1]] == [
        {"index": 0, "state": "SUCCEEDED", "output": {"words": {"ä": 1}}},
        {"index": 1, "state": "FAILED", "output": None},
        {"index": 2, "state": "SUCCEEDED", "output": "two\nlines"},
    ]
    assert list(reduce_lines([])) == []


def test_a_record_lists_the_files_of_the_last_attempts_that_have_room() -> None:
    listed = OutputFiles(files=(OutputFile(name="out/\u4e2d", size=2**63, sha256="0" * 64),))
    attempts = [Attempt(number=1, outputs=listed, **WELL.model_dump())]
    attempts += [one.model_copy(update={"number": number}) for number in (2, 3) for one in attempts[:1]]
    attempts.append(Attempt(number=4, **WELL.model_dump()))
    one = list_bytes(["out/\u4e2d"])
    assert len(json.dumps([file.model_dump() for file in listed.files])) <= one
    assert with_listed_files(attempts, 3 * one) == tuple(attempts)
    found = with_listed_files(attempts, 2 * one)
    assert found[1:] == tuple(attempts[1:])
    assert found[0].outputs
    assert (found[0].outputs.files, found[0].outputs.status) == ((), LogStatus.PARTIAL)
    assert "not listed" in found[0].outputs.reason
