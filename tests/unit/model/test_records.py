"""What the ledger stores and what users get back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.errors import JobCancelled, JobFailed, JobNotEnded
from jaas_submit.model.causes import Cause
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import LogGap, LogLine, Logs, LogStatus
from jaas_submit.model.records import Attempt, JobRecord, Outcome
from jaas_submit.model.result import RESULT_VERSION, CapturedGap, CapturedOutput, JobResult
from jaas_submit.model.states import JobState, read_as

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def attempt(state: JobState = JobState.SUCCEEDED, cause: Cause = Cause.EXIT, **fields: Any) -> Attempt:
    code = 0 if state is JobState.SUCCEEDED else None
    return Attempt(**{"number": 1, "state": state, "cause": cause, "exit_code": code, "node": "n1", **fields})


def record(*attempts: Attempt, **fields: Any) -> JobRecord:
    state = attempts[-1].state if attempts else JobState.RUNNING
    base = {"id": "j", "state": state, "queue": "q", "created_at": NOON, "updated_at": NOON, "attempts": attempts}
    return JobRecord(**{**base, "spec": JobSpec(image="a"), **fields})


def result(*attempts: Attempt, stdout: str = "", stderr: str = "") -> JobResult:
    return JobResult.of(record(*attempts), CapturedOutput(stdout=stdout, stderr=stderr))


# -- how a job ended, in words ---------------------------------------------------------------------------------------

SENTENCES: list[tuple[Attempt, str]] = [
    (attempt(), "job j succeeded with exit code 0, attempt 1 on n1"),
    (
        attempt(JobState.FAILED, exit_code=4, reason="task: non-zero exit (4)"),
        "job j failed with exit code 4 (cause: exit; task: non-zero exit (4)), attempt 1 on n1",
    ),
    (
        attempt(JobState.FAILED, Cause.IMAGE, reason="No such image: x", node=None),
        "job j failed without an exit code (cause: image; No such image: x), attempt 1",
    ),
    (
        attempt(JobState.FAILED, Cause.RUN_TIMEOUT, exit_code=143, reason="ran longer than 5 s", number=3),
        "job j failed with exit code 143 (cause: run_timeout; ran longer than 5 s), attempt 3 on n1",
    ),
    (
        attempt(JobState.CANCELLED, Cause.CANCELLED, number=0, node=None, reason="enough"),
        "job j was cancelled (cause: cancelled; enough)",
    ),
    (
        attempt(JobState.FAILED, Cause.NODE_LOST),
        "job j failed without an exit code (cause: node_lost), attempt 1 on n1",
    ),
]


@pytest.mark.parametrize(("last", "sentence"), SENTENCES)
def test_one_line_says_how_it_ended(last: Attempt, sentence: str) -> None:
    assert result(last).sentence() == sentence


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (attempt(), None),
        (attempt(JobState.FAILED, exit_code=4), JobFailed),
        (attempt(JobState.FAILED, Cause.IMAGE), JobFailed),
        (attempt(JobState.CANCELLED, Cause.CANCELLED), JobCancelled),
    ],
)
def test_check_raises_what_fits(last: Attempt, error: type[JobFailed] | None) -> None:
    made = result(last)
    assert made.ok == (error is None)
    if error is None:
        assert made.check() is made
        return
    with pytest.raises(JobFailed) as caught:
        made.check()
    assert type(caught.value) is error
    assert caught.value.result is made
    assert caught.value.exit_code == last.exit_code
    assert str(caught.value).startswith(made.sentence())


def test_the_error_has_the_last_ten_lines_of_output() -> None:
    failed = attempt(JobState.FAILED, exit_code=1)
    printed = "".join(f"line {n}\n" for n in range(30))
    with pytest.raises(JobFailed) as caught:
        result(failed, stdout=printed, stderr="error!\n").check()
    assert str(caught.value).splitlines()[1:] == [*(f"line {n}" for n in range(21, 30)), "error!"]


def test_without_output_there_is_none_in_the_error() -> None:
    with pytest.raises(JobFailed, match=r"on n1$"):
        result(attempt(JobState.FAILED, exit_code=1)).check()


def test_celery_can_rebuild_the_error_from_its_text() -> None:
    # Celery stores exc_type and exc_message (the args), and calls exc_type(*exc_message).
    error = JobFailed("job j failed", result=result(attempt(JobState.FAILED, exit_code=1)))
    again = type(error)(*error.args)
    assert str(again) == "job j failed"
    assert again.result is None
    assert again.exit_code is None


# -- the result's object ---------------------------------------------------------------------------------------------


def test_a_result_is_made_of_the_last_attempt() -> None:
    first = attempt(JobState.FAILED, exit_code=1, number=1, node="n1")
    last = attempt(number=2, node="n2", started_at=NOON, finished_at=NOON + timedelta(seconds=5))
    made = result(first, last, stdout="out", stderr="err")
    assert (made.state, made.cause, made.exit_code, made.node) == (JobState.SUCCEEDED, Cause.EXIT, 0, "n2")
    assert (made.queued_at, made.started_at, made.finished_at, made.duration) == (NOON, NOON, last.finished_at, 5)
    assert made.attempts == (first, last)
    assert (made.image, made.stdout, made.stderr) == ("a", "out", "err")


@pytest.mark.parametrize("unfinished", [record(), record(state=JobState.SUCCEEDED)])
def test_there_is_no_result_before_the_end(unfinished: JobRecord) -> None:
    with pytest.raises(ValueError, match="has not ended"):
        JobResult.of(unfinished, CapturedOutput())


def test_the_wire_form_is_plain_json_and_comes_back() -> None:
    made = result(attempt(started_at=NOON, finished_at=NOON), stdout="ä€😀\x00")
    wire = json.loads(json.dumps(made.to_wire()))
    assert wire["version"] == RESULT_VERSION
    assert (wire["state"], wire["exit_code"], wire["logs"]["stdout"]) == ("SUCCEEDED", 0, "ä€😀\x00")
    assert JobResult.model_validate(wire) == made


def test_a_field_of_a_newer_version_does_no_harm() -> None:
    wire = {**result(attempt()).to_wire(), "from_the_future": 1}
    assert JobResult.model_validate(wire) == result(attempt())


@pytest.mark.parametrize(
    ("started", "finished", "duration"),
    [
        (NOON, NOON + timedelta(seconds=1.5), 1.5),
        (NOON, NOON, 0),
        (NOON, NOON - timedelta(milliseconds=1), 0),  # seen on Docker 20.10
        (None, NOON, None),
        (NOON, None, None),
    ],
)
def test_durations_are_never_negative(started: Any, finished: Any, duration: float | None) -> None:
    outcome = Outcome(state=JobState.SUCCEEDED, cause=Cause.EXIT, started_at=started, finished_at=finished)
    assert outcome.duration == duration


# -- records ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", JobState)
def test_a_record_knows_whether_it_has_ended(state: JobState) -> None:
    assert record(state=state).terminal == (state.value in {"SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED"})


def test_a_record_without_a_description() -> None:
    assert record(spec=None).label == "(no valid description)"
    assert record().label == "a"
    assert record().last is None


# -- output ----------------------------------------------------------------------------------------------------------

# Output of stderr; the cap; what is kept; after how many characters how many bytes are missing.
CUTS: list[tuple[bytes, int, str, tuple[int, int] | None]] = [
    (b"", 10, "", None),
    (b"0123456789", 10, "0123456789", None),
    (b"0123456789A", 10, "012346789A", (5, 1)),
    (b"0123456789", 4, "0189", (2, 6)),
    (b"0123456789", 5, "0189", (2, 6)),
    (b"0123456789", 1, "", (0, 10)),
    (b"0123456789", 0, "", (0, 10)),
    ("äää".encode(), 4, "ää", (1, 2)),
    ("äää".encode(), 2, "\ufffd\ufffd", (1, 4)),  # in the middle of characters
]


@pytest.mark.parametrize(("data", "cap", "kept", "gap"), CUTS)
def test_output_in_the_celery_result_is_cut(data: bytes, cap: int, kept: str, gap: tuple[int, int] | None) -> None:
    captured = CapturedOutput.of(Logs((LogLine("", "stderr", data),)), cap)
    assert (captured.stdout, captured.stderr) == ("", kept)
    if gap is None:
        assert (captured.status, captured.reason, captured.gaps) == (LogStatus.COMPLETE, "", ())
    else:
        assert captured.gaps == (CapturedGap(stream="stderr", at=gap[0], missing=gap[1]),)
        assert captured.status is LogStatus.TRUNCATED
        assert captured.reason == f"cut to {cap:,} bytes a stream; `jaas logs` has more"


def test_what_was_missing_already_counts_with_what_is_cut() -> None:
    lines = tuple(LogLine("", "stdout", data) for data in (b"01234", b"56789", b"abcde"))
    gaps = (LogGap("stdout", 0, 1), LogGap("stdout", 1, 100, exact=False), LogGap("stdout", 3, 7))
    captured = CapturedOutput.of(Logs(lines, LogStatus.PARTIAL, "why", gaps, ("stopped",)), 6)
    assert (captured.stdout, captured.notices) == ("012cde", ("stopped",))
    assert [tuple(gap.model_dump().values()) for gap in captured.gaps] == [
        ("stdout", 0, 1, True),
        ("stdout", 3, 109, False),
        ("stdout", 6, 7, True),
    ]


@pytest.mark.parametrize(
    ("status", "reason"), [(LogStatus.UNAVAILABLE, "the time is over"), (LogStatus.TRUNCATED, "5 bytes cut")]
)
@pytest.mark.parametrize("cap", [2, 100])
def test_what_was_wrong_already_is_still_said(status: LogStatus, reason: str, cap: int) -> None:
    captured = CapturedOutput.of(Logs((LogLine("", "stdout", b"0123456789"),), status, reason), cap)
    assert (captured.status, captured.reason) == (status, reason)


@given(st.binary(max_size=40), st.integers(0, 50))
def test_no_more_than_the_cap_goes_into_the_result(data: bytes, cap: int) -> None:
    captured = CapturedOutput.of(Logs((LogLine("", "stdout", data),)), cap)
    if len(data) <= cap:
        assert captured.stdout == data.decode(errors="replace")
    else:
        head, tail = data[: cap // 2], data[len(data) - cap // 2 :]
        assert captured.stdout == head.decode(errors="replace") + tail.decode(errors="replace")


def test_a_state_that_somebody_has_forged_is_not_quoted_in_full() -> None:
    forged = record(state=read_as(JobState, "1" * 64_000))
    with pytest.raises(JobNotEnded) as refused:
        JobResult.of(forged, CapturedOutput())
    assert len(str(refused.value)) < 200
