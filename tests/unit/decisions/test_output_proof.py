"""How complete an output is."""

from __future__ import annotations

import pytest

from jaas_submit.model.logs import LogGap, LogLine, Logs, LogStatus
from jaas_worker.decisions.output_proof import Reading, after_restart, began_before, node_changed_since, prove
from jaas_worker.decisions.times import parse_time

COMPLETE, TRUNCATED, PARTIAL, UNAVAILABLE = (
    LogStatus.COMPLETE,
    LogStatus.TRUNCATED,
    LogStatus.PARTIAL,
    LogStatus.UNAVAILABLE,
)


@pytest.mark.parametrize(
    ("reading", "status", "why"),
    [
        (Reading(proven=True), COMPLETE, ""),
        (Reading(10, proven=True), COMPLETE, ""),
        (Reading(10), PARTIAL, "could not be compared"),
        (Reading(2000, {"stdout": 1000}), TRUNCATED, "1,000 bytes of stdout cut"),
        (Reading(2000, {"stdout": 0}, proven=True), COMPLETE, ""),
        (Reading(2000, {"stdout": 1000, "stderr": 5}), TRUNCATED, "1,000 bytes of stdout cut, 5 bytes of stderr cut"),
        (Reading(10, proven=True, lost=True), PARTIAL, "unknown number"),
        (Reading(2000, {"stdout": 9}, left_out=True), PARTIAL, "9 bytes of stdout cut, there was no time"),
        (Reading(10, proven=True, rotated=True), PARTIAL, "max-size"),
        (Reading(10, proven=True, restarted=True), PARTIAL, "restarted while it ran"),
        (Reading(2000, {"stdout": 9}, restarted=True), PARTIAL, "9 bytes of stdout cut, its engine was restarted"),
        (Reading(10, proven=True, replaced=True), PARTIAL, "U+FFFD"),
        (Reading(10, proven=True, unknown_ends=("stdout",)), PARTIAL, "a line end may be missing at the end of stdout"),
        (Reading(2000, {"stdout": 9}, rotated=True), PARTIAL, "9 bytes of stdout cut, the engine may have removed"),
        (Reading(problem="no such container"), UNAVAILABLE, "no such container"),
        (Reading(10, problem="no answer"), PARTIAL, "the end is missing: no answer"),
    ],
)
def test_an_output_is_complete_only_if_that_is_proven(reading: Reading, status: LogStatus, why: str) -> None:
    found, reason = prove(reading)
    assert found is status
    assert why in reason
    assert bool(reason) is (status is not COMPLETE)


@pytest.mark.parametrize(
    ("container", "engine", "restarted"),
    [
        ("2026-11-30T12:00:00.000000001Z", "2026-11-30T11:59:59Z", False),
        ("2026-11-30T12:00:00.000000001Z", "2026-11-30T12:00:01.5Z", True),
        pytest.param("2026-11-30T12:00:00Z", "2026-11-30T13:00:01+01:00", True, id="in another time zone"),
        pytest.param("2026-11-30T12:00:00Z", "", False, id="the engine does not tell"),
        pytest.param("0001-01-01T00:00:00Z", "2026-11-30T12:00:00Z", False, id="it never started"),
    ],
)
def test_an_engine_that_is_younger_than_its_container_was_restarted(
    container: str, engine: str, restarted: bool
) -> None:
    assert began_before(container, engine) is restarted


LINE = (LogLine("", "stdout", b"a"),)


@pytest.mark.parametrize(
    ("logs", "status", "reason"),
    [
        (Logs(LINE), PARTIAL, "its engine was restarted while it ran, and may have lost output"),
        (Logs((), TRUNCATED, "9 bytes cut", (LogGap("stdout", 0, 9),)), PARTIAL, "9 bytes cut, its engine was restart"),
        (Logs(LINE, PARTIAL, "why"), PARTIAL, "why"),
        (Logs((), UNAVAILABLE, "why"), UNAVAILABLE, "why"),
    ],
)
def test_what_a_restarted_engine_hands_out_is_not_known_to_be_all(logs: Logs, status: LogStatus, reason: str) -> None:
    found = after_restart(logs)
    assert (found.status, found.lines, found.gaps) == (status, logs.lines, logs.gaps)
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("changed", "began", "status"),
    [
        ("2026-11-30T10:00:05.5Z", "2026-11-30T10:00:05Z", PARTIAL),
        ("2026-11-30T10:00:05Z", "2026-11-30T10:00:05Z", COMPLETE),
        ("2026-11-30T09:00:00Z", "2026-11-30T10:00:05Z", COMPLETE),
        ("", "2026-11-30T10:00:05Z", COMPLETE),
        ("2026-11-30T10:00:06Z", "", COMPLETE),
    ],
)
def test_without_proof_an_output_is_partial_where_its_node_has_changed(
    changed: str, began: str, status: LogStatus
) -> None:
    assert node_changed_since(Logs(LINE), changed, parse_time(began)).status is status
    assert node_changed_since(Logs(LINE, UNAVAILABLE, "why"), changed, parse_time(began)).status is UNAVAILABLE
