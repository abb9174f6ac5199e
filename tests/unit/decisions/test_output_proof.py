"""How complete an output is."""

from __future__ import annotations

import pytest

from jaas_submit.model.logs import LogStatus
from jaas_worker.decisions.output_proof import Reading, prove

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
        (Reading(10, proven=True, rotated=True), PARTIAL, "max-size"),
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
