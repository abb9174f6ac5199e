"""The checker finds what it is there to find: each test spoils a good history in one way."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from jaas_submit.model.logs import STREAMS
from tests.faults.checker import check
from tests.faults.faults import FAULTS, schedule
from tests.faults.payload import Payload, expected, payload_of
from tests.faults.report import Report, table

Event = dict[str, Any]

JOB = "3b0c"

PAYLOAD = Payload("text", 1, 3000, 10).to_event()

HELLO = expected(Payload(**PAYLOAD))
"""What the job prints."""


def part(data: bytes) -> list[Any]:
    return ["bytes", len(data), hashlib.sha256(data).hexdigest()]


def kept(data: dict[str, bytes], status: str = "complete", reason: str = "") -> Event:
    """Return what the ledger says of an output that it has without a gap."""
    parts = {stream: [part(text)] if text else [] for stream, text in data.items()}
    return {"status": status, "said": status, "kept": True, "reason": reason, **parts}


def history(**changes: Event | None) -> list[Event]:
    """Return the history of one job that ended well; keyword arguments change or (None) leave out single events."""
    events: dict[str, Event] = {
        "run": {"t": 0.0, "mode": "jaas", "seed": 1, "minutes": 1.0},
        "order": {
            "t": 1.0,
            "n": 1,
            "kind": "plain",
            "chord": None,
            "seconds": 2.0,
            "code": 0,
            "payload": PAYLOAD,
        },
        "ack": {"t": 1.1, "n": 1, "id": JOB},
        "start": {"t": 2.0, "id": JOB, "attempt": 1, "container": "c1", "code": 0},
        "stop": {"t": 4.0, "id": JOB, "attempt": 1, "container": "c1", "code": 0},
        "record": {
            "t": 9.0,
            "id": JOB,
            "n": 1,
            "state": "SUCCEEDED",
            "terminal": True,
            "cause": "exit",
            "reason": "",
            "exit_code": 0,
            "attempt": 1,
            "attempts": [{"number": 1, "cause": "exit", "code": 0, "node": "node1", "reason": ""}],
            "node": "node1",
            "updated": 4.5,
        },
        "result": {"t": 9.0, "id": JOB, "status": "SUCCESS", "state": "SUCCEEDED", "code": 0},
    }
    for name, change in changes.items():
        if change is None:
            del events[name]
        else:
            events[name] = {**events[name], **change}
    if "record" in events:
        for attempt in events["record"]["attempts"]:
            attempt.setdefault("output", kept(HELLO))
    return [{"e": name, **event} for name, event in events.items()]


def failed(code: int | None, cause: str = "exit", node: str | None = "node1") -> dict[str, Event]:
    """Return the changes for a job that is recorded as failed."""
    attempt = {"number": 1, "cause": cause, "code": code, "node": node, "reason": ""}
    return {
        "record": {"state": "FAILED", "cause": cause, "exit_code": code, "node": node, "attempts": [attempt]},
        "result": {"status": "FAILURE", "state": None, "code": None},
    }


def fault(kind: str, start: float, end: float, **parameters: Any) -> list[Event]:
    """Return the events of a fault."""
    excuses = FAULTS[kind].excuses
    return [
        {"e": "inject", "t": start, "fault": 1, "kind": kind, "parameters": parameters, "excuses": excuses},
        {"e": "injected", "t": start, "fault": 1, "known": {}},
        {"e": "heal", "t": end, "fault": 1, "kind": kind},
    ]


def kinds(report: Report) -> list[str]:
    return [finding.kind for finding in report.findings]


def test_a_fault_that_failed_itself_does_not_count() -> None:
    inject, injected, heal = fault("leader_kill", 2.0, 3.0)

    assert dict(check([*history(), inject, injected, heal]).faults) == {"leader_kill": 1}
    without = check([*history(), inject, heal])
    assert (dict(without.faults), without.not_injected) == ({}, 1)


def test_a_job_that_ended_well_is_no_finding() -> None:
    report = check(history())

    assert (kinds(report), report.jobs, report.failed) == ([], 1, False)
    assert "| **lost** | 0 |" in table([report])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"record": None, "result": None}, ["lost"], id="no record"),
        pytest.param({"record": {"terminal": False, "state": "RUNNING"}}, ["lost"], id="never ended"),
        pytest.param({"stop": None}, ["wrong"], id="success without an end"),
        pytest.param({"stop": {"code": 3}}, ["wrong"], id="success of a container that failed"),
        pytest.param({"order": {"code": 4}}, ["wrong"], id="told to fail"),
        pytest.param({"result": None}, ["wrong"], id="no Celery result"),
        pytest.param({"result": {"status": "FAILURE"}}, ["wrong"], id="another Celery result"),
        pytest.param({"result": {"code": 1}}, ["wrong"], id="another exit code in Celery's result"),
        pytest.param(
            {"record": {"state": "CANCELLED"}, "result": {"status": "REVOKED"}}, ["wrong"], id="not cancelled"
        ),
        pytest.param(failed(3), ["wrong"], id="an exit code from nowhere"),
        pytest.param(failed(None, "node_lost"), ["wrong"], id="node lost without a fault"),
        pytest.param({"ack": None, "record": None, "result": None}, ["wrong"], id="a container that nobody knows"),
    ],
)
def test_what_is_wrong_is_found(changes: dict[str, Any], expected: list[str]) -> None:
    assert kinds(check(history(**changes))) == expected


def test_a_second_container_of_an_attempt_is_a_duplicate_start() -> None:
    second = {"e": "start", "t": 3.0, "id": JOB, "attempt": 1, "container": "c2", "code": 0}

    assert kinds(check([*history(), second])) == ["duplicate"]


@pytest.mark.parametrize(("began", "expected"), [(3.9, ["overlap"]), (4.1, [])])
def test_attempts_must_not_overlap(began: float, expected: list[str]) -> None:
    more = [
        {"e": "start", "t": began, "id": JOB, "attempt": 2, "container": "c2", "code": 0},
        {"e": "stop", "t": 6.0, "id": JOB, "attempt": 2, "container": "c2", "code": 0},
    ]
    record = {
        "attempt": 2,
        "attempts": [{"number": n, "cause": "exit", "code": code, "node": None} for n, code in ((1, 7), (2, 0))],
    }
    events = history(order={"kind": "retried"}, stop={"code": 7}, record=record)

    assert kinds(check([*events, *more])) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(fault("drain", 2.5, 4.0, node=1), [], id="its node was drained"),
        pytest.param(fault("drain", 2.5, 4.0, node=2), ["wrong"], id="another node was drained"),
        pytest.param(fault("drain", 20.0, 25.0, node=1), ["wrong"], id="it was drained later"),
        pytest.param(fault("redis_kill", 2.5, 4.0), ["wrong"], id="Redis kills no containers"),
    ],
)
def test_a_fault_of_its_node_explains_a_killed_container(events: list[Event], expected: list[str]) -> None:
    changes = failed(143, "preempted")
    spoiled = history(**changes, stop={"code": 143})
    report = check([*spoiled, *events])

    assert (kinds(report), report.excused) == (expected, 0 if expected else 1)


@pytest.mark.parametrize(
    ("kind", "cause", "code", "expected"),
    [
        ("engine_stop", "engine", None, []),
        ("leader_stop", "node_lost", None, []),
        ("engine_kill", "engine", 137, []),
        ("partition", "node_lost", 137, []),
        pytest.param("engine_stop", "engine", 0, ["wrong"], id="an exit code that nothing ended with"),
        pytest.param("engine_stop", "engine", 255, ["wrong"], id="an exit code that an engine made up"),
        ("engine_stop", "launch", None, ["wrong"]),
        ("engine_stop", "preempted", None, ["wrong"]),
        ("engine_stop", "removed_outside", None, ["wrong"]),
        ("engine_kill", "exit", 137, ["wrong"]),
        ("partition", "preempted", 137, ["wrong"]),
        ("partition", "engine", 137, ["wrong"]),
        ("drain", "node_lost", 137, ["wrong"]),
        ("worker_kill", "engine", None, ["wrong"]),
        ("engine_away", "node_lost", None, ["wrong"]),
    ],
)
def test_an_end_has_a_cause_that_a_fault_of_its_node_has(
    kind: str, cause: str, code: int | None, expected: list[str]
) -> None:
    killed = history(**failed(code, cause), stop=None)
    assert kinds(check([*killed, *fault(kind, 2.5, 4.0, node=1)])) == expected


def test_engines_that_are_restarted_one_after_the_other_have_ended_only_what_they_ran() -> None:
    events = history(**failed(None, "engine"), stop=None)
    inject, injected, heal = fault("rolling_stop", 2.5, 200.0)

    def stopped(node: int) -> list[Event]:
        return [inject, {**injected, "known": {"hits": [[node, 3.0, 4.0]]}}, heal]

    own, other = check([*events, *stopped(1)]), check([*events, *stopped(2)])
    assert (kinds(own), dict(own.met), dict(own.causes)) == ([], {"rolling_stop": 1}, {"engine": 1})
    assert kinds(other) == ["wrong"]


HOSTILE = {"n": None, "id": "7e57", "state": "FAILED", "exit_code": None}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"cause": "refused"}, []),
        ({"cause": "image"}, []),
        pytest.param({"cause": "exit", "code": 0}, ["wrong"], id="its image is on no node"),
        pytest.param({"cause": "engine"}, ["wrong"], id="no engine was touched"),
        pytest.param({"cause": "refused", "terminal": False}, ["lost"], id="it never ended"),
        pytest.param(None, ["lost"], id="no record"),
    ],
)
def test_a_hostile_entry_becomes_a_job_that_ends(change: Event | None, expected: list[str]) -> None:
    inject, injected, heal = fault("hostile", 1.0, 1.0)
    known = {"title": "a raw newline", "records": [], "ends": ["7e57"]}
    record = {**history()[5], **HOSTILE, "created": 1.5}
    record["attempts"] = [{"number": 0, "code": None, "node": None, "reason": "", **(change or {})}]
    record["terminal"] = (change or {}).get("terminal", True)

    report = check([*history(), inject, {**injected, "known": known}, heal, *([record] if change else [])])
    assert (kinds(report), report.hostile) == (expected, 1)


def test_no_message_waits_at_the_end() -> None:
    assert kinds(check([*history(), {"e": "messages", "t": 9.0, "left": 1}])) == ["lost"]
    assert kinds(check([*history(), {"e": "messages", "t": 9.0, "left": 0}])) == []


def test_a_record_that_a_hostile_entry_wrote_itself_need_not_end() -> None:
    inject, injected, heal = fault("hostile", 1.0, 1.0)
    known = {"title": "a record", "records": ["7e57"], "ends": []}
    record = {**history()[5], **HOSTILE, "terminal": False, "created": 1.5, "attempts": []}

    assert kinds(check([*history(), inject, {**injected, "known": known}, heal, record])) == []


@pytest.mark.parametrize(
    ("ready", "away", "expected"),
    [
        pytest.param(True, True, ["worker end"], id="it was up"),
        pytest.param(False, True, [], id="its engine was away when it started"),
        pytest.param(False, False, ["worker end"], id="nothing was away when it started"),
    ],
)
def test_a_worker_ends_only_if_it_is_told_to_or_cannot_start(ready: bool, away: bool, expected: list[str]) -> None:
    worker = {"e": "worker", "name": "worker1", "pid": 1}
    ends = [
        {**worker, "what": "start", "t": 3.0},
        {**worker, "what": "end", "t": 5.0, "code": 1, "expected": False, "ready": ready, "said": "why"},
    ]

    report = check([*history(), *ends, *(fault("engine_away", 2.5, 6.0, worker=0) if away else [])])
    assert (kinds(report), report.failed) == (expected, bool(expected))


@pytest.mark.parametrize(("kind", "expected"), [("engine_kill", []), ("drain", ["wrong"])])
def test_an_exit_code_that_a_restarted_engine_made_up_is_counted_apart(kind: str, expected: list[str]) -> None:
    report = check([*history(**failed(255)), *fault(kind, 2.5, 4.0, node=1)])

    assert (kinds(report), report.made_up) == (expected, 0 if expected else 1)


@pytest.mark.parametrize(("kind", "expected"), [("engine_kill", []), ("drain", ["duplicate"])])
def test_a_container_that_its_restarted_engine_started_again_is_counted_apart(kind: str, expected: list[str]) -> None:
    again = {"e": "start", "t": 3.5, "id": JOB, "attempt": 1, "container": "c1", "code": 0}

    report = check([*history(), again, *fault(kind, 2.5, 4.0, node=1)])

    assert (kinds(report), report.started_again) == (expected, 0 if expected else 1)


def test_a_manager_that_was_away_explains_what_the_swarm_did_to_its_node() -> None:
    events = history(**failed(None, "node_lost"))
    away = [{"e": "manager", "t": t, "node": 1, "answers": answers} for t, answers in ((2.5, False), (3.0, True))]
    others = [{**event, "node": 2} for event in away]

    assert (kinds(check([*events, *away])), kinds(check([*events, *others]))) == ([], ["wrong"])


def test_a_fault_before_the_first_start_explains_an_attempt_that_never_started() -> None:
    lost = {"number": 1, "cause": "preempted", "code": None, "node": "node1", "reason": ""}
    second = {"number": 2, "cause": "exit", "code": 0, "node": "node2", "reason": ""}
    late = {"t": 90.0, "attempt": 2}
    record = {"attempt": 2, "attempts": [lost, second], "updated": 95.0}

    report = check([*history(start=late, stop={**late, "t": 92.0}, record=record), *fault("drain", 2.0, 4.0, node=1)])

    assert (kinds(report), report.excused) == ([], 1)


def test_a_job_whose_container_still_runs_is_not_lost() -> None:
    open_record = {"record": {"state": "RUNNING", "terminal": False}}

    running = check(history(**open_record, stop=None))
    assert (kinds(running), running.still_running) == ([], 1)
    assert kinds(check(history(**open_record))) == ["lost"]


def test_recovery_leaves_out_what_one_can_only_wait_for() -> None:
    late = history(stop={"t": 10.0}, record={"updated": 40.0})

    killed = check([*late, *fault("worker_kill", 9.0, 12.0, worker=1)])
    away = check([*late, *fault("redis_kill", 11.0, 31.0)])
    untouched = check(late)

    assert (killed.recovery, away.recovery, untouched.recovery) == ([30.0], [10.0], [])


def test_a_chord_whose_header_failed_needs_no_body() -> None:
    member = {"e": "order", "t": 1.0, "n": 2, "kind": "member", "chord": 9, "payload": PAYLOAD, "code": 0, "seconds": 0}
    body = {**member, "n": 3, "kind": "body"}
    acks = [{"e": "ack", "t": 1.1, "n": n, "id": f"job{n}"} for n in (2, 3)]
    base = history()[5]
    record = {**base, "id": "job2", "n": 2, "state": "FAILED", "cause": "preempted", "exit_code": None}
    good = {**base, "id": "job2", "n": 2}
    start = {"e": "start", "t": 2.0, "id": "job2", "attempt": 1, "container": "c9", "code": 0}
    stop = {**start, "e": "stop", "t": 3.0}

    failed_header = check([*history(), member, body, *acks, record])
    good_header = check([*history(), member, body, *acks, good, start, stop])

    assert [f.kind for f in failed_header.findings if f.job == "job3"] == []
    assert [f.kind for f in good_header.findings if f.job == "job3"] == ["lost"]


def test_a_seed_replays_its_schedule() -> None:
    def text(seed: int) -> list[tuple[float, str, dict[str, Any]]]:
        return [(item.at, item.kind, item.fault.parameters) for item in schedule(seed, 600, list(FAULTS))]

    assert text(1) == text(1)
    assert text(1) != text(2)
    assert len({kind for _, kind, _ in text(1)}) > 12


def gap(missing: int, *, exact: bool = True) -> list[Any]:
    return ["gap", missing, exact]


OUT, ERR = HELLO["stdout"], HELLO["stderr"]
BOTH_ENDS = {"stdout": [part(OUT[:100]), gap(len(OUT) - 300), part(OUT[-200:])], "stderr": [part(ERR)]}
CUT = {**kept(HELLO, "truncated", "bytes of stdout cut"), **BOTH_ENDS}
LOST = {**CUT, "status": "partial", "said": "partial", "reason": "the engine rotated its log"}
NOTHING_KEPT = {"status": "complete", "kept": False}


@pytest.mark.parametrize(
    ("told", "expected_kinds"),
    [
        pytest.param(kept(HELLO), [], id="complete"),
        pytest.param(kept({**HELLO, "stdout": OUT[:-1]}), ["wrong output"], id="complete without the last byte"),
        pytest.param(kept({**HELLO, "stdout": b"?" + OUT[1:]}), ["wrong output"], id="another byte"),
        pytest.param(kept({**HELLO, "stdout": OUT + OUT[-9:]}), ["wrong output"], id="the end comes twice"),
        pytest.param(kept({**HELLO, "stderr": b""}), ["wrong output"], id="complete without one of the streams"),
        pytest.param(NOTHING_KEPT, ["wrong output"], id="complete, and nothing is kept"),
        pytest.param({**kept(HELLO), "said": "partial"}, ["wrong output"], id="record and output differ"),
        pytest.param({**CUT, "status": "complete", "said": "complete"}, ["wrong output"], id="complete with a gap"),
        pytest.param(CUT, [], id="truncated"),
        pytest.param({**CUT, "reason": ""}, ["wrong output"], id="truncated without a reason"),
        pytest.param(kept(HELLO, "truncated", "why"), ["wrong output"], id="truncated, and nothing is missing"),
        pytest.param(
            {**CUT, "stdout": [part(OUT[:100]), gap(len(OUT) - 301), part(OUT[-200:])]},
            ["wrong output"],
            id="truncated with a wrong count",
        ),
        pytest.param({**CUT, "stdout": [part(OUT[:100]), gap(5)]}, ["wrong output"], id="truncated without its end"),
        pytest.param(
            {**CUT, "stdout": [part(OUT[:100]), gap(5, exact=False), part(OUT[-200:])]},
            ["wrong output"],
            id="truncated without a count",
        ),
        pytest.param({**LOST, "stdout": [part(OUT[:100]), gap(5)]}, [], id="partial"),
        pytest.param({**LOST, "reason": ""}, ["wrong output"], id="partial without a reason"),
        pytest.param({**LOST, "stdout": [part(OUT[1:100])]}, ["wrong output"], id="partial, and not what was printed"),
        pytest.param(
            {**LOST, "stdout": [part(OUT[:100]), gap(0, exact=False), part(OUT[-50:])]}, [], id="an unknown number lost"
        ),
        pytest.param(
            {**LOST, "stdout": [gap(0, exact=False), part(OUT[-50:-1])]}, ["wrong output"], id="its end is not the end"
        ),
        pytest.param(kept({"stdout": b"", "stderr": b""}, "unavailable", "why"), [], id="unavailable"),
        pytest.param(kept({"stdout": b"", "stderr": b""}, "unavailable"), ["wrong output"], id="no reason"),
        pytest.param(kept(HELLO, "unavailable", "why"), ["wrong output"], id="unavailable, and there is some"),
    ],
)
def test_output_is_what_it_is_said_to_be(told: Event, expected_kinds: list[str]) -> None:
    attempt = {"number": 1, "cause": "exit", "code": 0, "node": "node1", "reason": "", "output": told}
    report = check(history(record={"attempts": [attempt]}))

    assert (kinds(report), report.failed) == (expected_kinds, bool(expected_kinds))
    assert dict(report.outputs) == {told["status"]: 1}


def test_of_a_container_that_was_killed_the_first_bytes_are_complete() -> None:
    killed = failed(143, "preempted")
    drained = fault("drain", 2.5, 4.0, node=1)

    def seen(data: dict[str, bytes]) -> list[str]:
        killed["record"]["attempts"][0]["output"] = kept(data)
        return kinds(check([*history(**killed, stop={"code": 143}), *drained]))

    assert seen({**HELLO, "stdout": OUT[:70]}) == []
    assert seen({**HELLO, "stdout": OUT[1:70]}) == ["wrong output"]


def came(offset: int, data: bytes) -> list[Any]:
    return ["bytes", offset, len(data), hashlib.sha256(data).hexdigest()]


BEHIND = ["gap", 900, "they were removed before they were read"]


@pytest.mark.parametrize(
    ("parts", "status", "expected_kinds"),
    [
        pytest.param([came(0, OUT)], "complete", [], id="all"),
        pytest.param([came(0, OUT[:100]), BEHIND, came(1000, OUT[1000:])], "complete", [], id="a gap that is marked"),
        pytest.param([came(0, OUT[:100]), came(1000, OUT[1000:])], "complete", ["wrong output"], id="one that is not"),
        pytest.param([came(0, OUT[:100]), came(90, OUT[90:])], "complete", ["wrong output"], id="bytes come twice"),
        pytest.param([came(0, OUT[:-1])], "complete", ["wrong output"], id="its end is missing"),
        pytest.param([came(0, OUT[:-1])], "", [], id="the reader gave up"),
        pytest.param([came(0, OUT[:-1])], "partial", [], id="partial"),
        pytest.param([came(0, b"?" + OUT[1:])], "partial", ["wrong output"], id="another byte"),
        pytest.param([came(0, OUT[:9]), ["gap", 0, "?"], came(50, OUT[50:99])], "partial", [], id="an unknown number"),
        pytest.param([["gap", 0, "?"]], "complete", ["wrong output"], id="complete with an unknown number missing"),
    ],
)
def test_a_follower_gets_every_byte_once_or_a_mark(
    parts: list[list[Any]], status: str, expected_kinds: list[str]
) -> None:
    attempt = {"number": 1, "status": status, "reason": "why", "stdout": parts, "stderr": [came(0, ERR)]}
    followed = {"e": "followed", "t": 9.5, "n": 1, "id": JOB, "error": "", "done": True, "attempts": [attempt]}
    report = check([*history(), followed])

    assert (kinds(report), report.followed) == (expected_kinds, 1)


def test_a_follower_comes_to_an_end() -> None:
    followed = {"e": "followed", "t": 9.5, "n": 1, "id": JOB, "error": "", "done": False, "attempts": []}

    assert kinds(check([*history(), followed])) == ["wrong output"]


def test_a_payload_follows_from_its_numbers_alone() -> None:
    rng = random.Random(3)
    for steady in [False, True] * 100:
        payload = payload_of(rng, 5.0, steady=steady)
        data = expected(payload)
        assert data == expected(Payload(**payload.to_event()))
        assert [len(data[stream]) for stream in STREAMS] == [payload.stdout, payload.stderr]


@pytest.mark.parametrize(
    ("status", "expected_kinds"), [("partial", []), ("complete", ["wrong output"]), ("truncated", ["wrong output"])]
)
def test_an_engine_that_was_killed_may_lose_bytes_but_not_call_that_complete(
    status: str, expected_kinds: list[str]
) -> None:
    found = kept({**HELLO, "stdout": OUT[:50] + OUT[90:]}, status, "" if status == "complete" else "why")
    attempt = {"number": 1, "cause": "exit", "code": 0, "node": "node1", "reason": "", "output": found}
    events = history(record={"attempts": [attempt]})

    assert kinds(check([*events, *fault("engine_kill", 2.5, 3.0, node=1)])) == expected_kinds
    assert kinds(check([*events, *fault("engine_stop", 2.5, 3.0, node=1)])) == ["wrong output"]
