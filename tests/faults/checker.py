"""PURE: judges a campaign by its history, and nothing else.

Words:

* lost: the submission was acknowledged, and no outcome is recorded when everything has been quiet for long, though by
  the recorder no container of it still runs.
* duplicate start: two containers started for the same attempt of a job.
* overlap: attempt k+1 started before attempt k had ended.
* wrong outcome: what is recorded (ledger, Celery) is not what the recorder saw, and no fault explains it.
* excused: the fault itself ended the container (its engine was killed, its node was lost or drained) and the outcome
  says so.
* not injected: a fault that failed itself, as when no manager could tell who leads; it may have done some of its harm.
* started again: the same container, by its own engine, which was killed before it had noted the start. Counted apart.
* made up: the container ended while its engine was dead, and the restarted engine said 255 of it. Counted apart.
* wait: the time from the submission to the container's start, or from the container's end to the recorded outcome; the
  longer one counts. Recovery is what is left of it without the times in which a fault lasted during which jaas can only
  wait (Redis down, an engine away, a node cut off). The moment of a worker's death or suspension excuses nothing.
  Only jobs with a fault in one of these two spans, or shortly before it, count.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.history import Event
from tests.faults.recorder import FIRST_CODE

__all__ = ["Finding", "Report", "check", "table"]

_MADE_UP: Final = 255
"""What an engine says of a container that ended while the engine itself was dead: it cannot know the exit code."""

_KILLED: Final = {137, 143, 0, None}
"""Exit codes of a container that its engine, or the swarm, killed; 0 and None where the engine did not see it."""

_NODE_FAULTS: Final = {"partition_8", "partition_60", "engine_kill", "leader_kill", "drain", "manager_away"}
_SWARM_CAUSES: Final = {"node_lost", "preempted", "removed_outside", "engine", "launch", "unschedulable"}

_SHORTLY: Final = 45.0
"""Seconds for which a worker's death may show in later jobs: three leases."""

_AFTERMATH: Final = 30.0
"""Seconds after a node fault's heal during which the swarm still acts on it."""


@dataclass(frozen=True)
class Finding:
    """One thing that should not have happened."""

    kind: str
    job: str
    detail: str


@dataclass(frozen=True)
class _Fault:
    number: int
    kind: str
    start: float
    end: float
    node: str
    excuses: bool

    def meets(self, start: float, end: float) -> bool:
        return self.start <= end and self.end >= start


@dataclass
class _Job:
    """All that the history tells of one job."""

    id: str
    order: Event | None = None
    ack: float | None = None
    starts: list[Event] = field(default_factory=list)
    stops: list[Event] = field(default_factory=list)
    cancels: list[Event] = field(default_factory=list)
    record: Event | None = None
    result: Event | None = None

    @property
    def kind(self) -> str:
        return str(self.order["kind"]) if self.order else "unacknowledged"


@dataclass
class Report:
    """The verdict."""

    mode: str
    seed: int
    minutes: float
    jobs: int = 0
    refused: int = 0
    not_injected: int = 0
    dropped: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    excused: int = 0
    made_up: int = 0
    started_again: int = 0
    still_running: int = 0
    recovery: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    worker_ends: int = 0

    def count(self, *kinds: str) -> int:
        """Return how many findings there are of some kinds."""
        return sum(finding.kind in kinds for finding in self.findings)

    @property
    def failed(self) -> bool:
        """Whether the promise was broken."""
        return self.count("lost", "duplicate", "overlap", "wrong") > 0


def check(history: Iterable[Event]) -> Report:
    """Return the verdict on a campaign.

    Args:
        history: its events.
    """
    return _Checker(list(history)).check()


class _Checker:
    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.jobs: dict[str, _Job] = {}
        self.faults: list[_Fault] = []
        self.run: Event = {}
        self.end = max((event["t"] for event in events), default=0.0)
        self.report = Report("?", 0, 0.0)

    def check(self) -> Report:
        self._read()
        for job in self.jobs.values():
            self._starts(job)
            if self.run["mode"] == "jaas":
                self._jaas(job)
            else:
                self._naive(job)
            self._recovery(job)
        return self.report

    # -- reading ------------------------------------------------------------------------------------------------------

    def _job(self, job_id: str) -> _Job:
        return self.jobs.setdefault(job_id, _Job(job_id))

    def _read(self) -> None:
        orders: dict[int, Event] = {}
        injected: dict[int, Event] = {}
        healed: dict[int, float] = {}
        found: dict[int, Event] = {}
        for event in self.events:
            match event["e"]:
                case "run":
                    self.run = event
                    self.report = Report(event["mode"], event["seed"], event["minutes"])
                case "order":
                    orders[event["n"]] = event
                case "ack":
                    job = self._job(event["id"])
                    job.ack, job.order = event["t"], orders[event["n"]]
                case "refused":
                    self.report.refused += 1
                case "start":
                    self._job(event["id"]).starts.append(event)
                case "stop":
                    self._job(event["id"]).stops.append(event)
                case "cancel":
                    self._job(event["id"]).cancels.append(event)
                case "record":
                    job = self._job(event["id"])
                    job.record = event
                    if job.order is None and event.get("n") in orders:  # its submission was not acknowledged
                        job.order = orders[event["n"]]
                case "result":
                    self._job(event["id"]).result = event
                case "inject":
                    injected[event["fault"]] = event
                case "injected":
                    found[event["fault"]] = event
                case "heal":
                    healed[event["fault"]] = event["t"]
                case "worker" if event["what"] == "end" and not event["expected"]:
                    self.report.worker_ends += 1
                case "dropped":
                    self.report.dropped = event["replies"]
                case "service":
                    self._service(event)
        for number, event in injected.items():
            known = {**event["parameters"], **found.get(number, {}).get("known", {})}
            node = f"node{known['node']}" if "node" in known else ""
            end = healed.get(number, self.end)
            if event["kind"] in {"worker_kill", "worker_term", "half_open", "client_kill", "create_lost"}:
                end = event["t"]
            self.faults.append(_Fault(number, event["kind"], event["t"], end, node, event["excuses"]))
            if number in found:
                self.report.faults[event["kind"]] += 1
            else:
                self.report.not_injected += 1
        self._no_manager()
        self.report.jobs = sum(job.ack is not None for job in self.jobs.values())
        floods = sum(job.kind == "flood" and bool(job.starts) for job in self.jobs.values())
        if floods:
            self.report.faults["log_flood"] = floods

    def _no_manager(self) -> None:
        """Add the times in which no manager answered, whatever the cause, to the faults that excuse waiting.

        And those in which one did not, to the faults of its node.
        """
        answers: dict[int, bool] = {}
        away: dict[int, float] = {}
        since: float | None = None
        for event in self.events:
            if event["e"] != "manager":
                continue
            if not event["answers"]:
                away.setdefault(event["node"], event["t"])
            elif (gone := away.pop(event["node"], None)) is not None:
                # A swarm that changes its leader, whatever the cause, may count a node as lost that was never touched.
                self.faults.append(_Fault(0, "manager_away", gone, event["t"], f"node{event['node']}", False))
            answers[event["node"]] = event["answers"]
            if any(answers.values()):
                if since is not None:
                    self.faults.append(_Fault(0, "no_manager", since, event["t"], "", True))
                since = None
            elif since is None:
                since = event["t"]

    def _service(self, event: Event) -> None:
        if not event["kept"]:
            self._find("leftover", event["name"], "its job has ended, but the service is still there")

    def _find(self, kind: str, job: str, detail: str) -> None:
        self.report.findings.append(Finding(kind, job, detail))

    # -- container starts ---------------------------------------------------------------------------------------------

    def _starts(self, job: _Job) -> None:
        by_attempt: dict[int, list[Event]] = defaultdict(list)
        for start in job.starts:
            by_attempt[start["attempt"]].append(start)
        for attempt, starts in by_attempt.items():
            if len({start["container"] for start in starts}) > 1:
                text = ", ".join(f"{start['container']} at {start['t']}" for start in starts)
                self._find("duplicate", job.id, f"attempt {attempt}: {text}")
            elif len(starts) > 1:
                self._started_again(job, attempt, starts)
        if self.run["mode"] != "jaas":
            self._runs_overlap(job, [(start, start) for start in job.starts])
            return
        firsts = sorted((number, min(item["t"] for item in starts)) for number, starts in by_attempt.items())
        for (number, _), (later, began) in itertools.pairwise(firsts):
            ends = [self._end_of(job, start) for start in by_attempt[number]]
            if any(end is None or end > began for end in ends):
                self._find("overlap", job.id, f"attempt {later} began at {began}, attempt {number} ended at {ends}")

    def _started_again(self, job: _Job, attempt: int, starts: Sequence[Event]) -> None:
        """One container was started twice: what an engine does that was killed before it had noted the start."""
        if self._node_fault(job, None, {"engine_kill", "leader_kill"}):
            self.report.started_again += 1
        else:
            times = [start["t"] for start in starts]
            self._find("duplicate", job.id, f"attempt {attempt}: {starts[0]['container']} at {times}")

    def _runs_overlap(self, job: _Job, runs: Sequence[tuple[Event, Event]]) -> None:
        """Of a system without attempts: two containers of one job at the same time."""
        ordered = sorted((start["t"], self._end_of(job, start)) for start, _ in runs)
        for (_, end), (began, _) in itertools.pairwise(ordered):
            if end is None or end > began:
                self._find("overlap", job.id, f"a container began at {began}, another one ended at {end}")

    @staticmethod
    def _end_of(job: _Job, start: Event) -> float | None:
        return next((stop["t"] for stop in job.stops if stop["container"] == start["container"]), None)

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def _jaas(self, job: _Job) -> None:
        record = job.record
        if job.ack is not None and (record is None or not record["terminal"]):
            if record is not None and record["state"] == "RUNNING" and job.starts and not job.stops:
                self.report.still_running += 1
            elif not self._never_due(job):
                state = record["state"] if record else "nowhere in the ledger"
                self._find("lost", job.id, f"{job.kind}: {state}")
            return
        if record is None:
            if job.starts:
                self._find("wrong", job.id, "a container ran that the ledger does not know")
            return
        if not record["terminal"]:
            return
        self.report.outcomes[f"{record['state']}/{record['cause']}"] += 1
        problem = self._outcome_problem(job, record)
        if problem:
            self._find("wrong", job.id, problem)
        problem = self._result_problem(job, record)
        if problem:
            self._find("wrong", job.id, f"Celery's result: {problem}")

    def _never_due(self, job: _Job) -> bool:
        """Whether a chord's body has no reason to run: a job of its header did not succeed."""
        if job.kind != "body" or job.order is None:
            return False
        header = [
            other
            for other in self.jobs.values()
            if other.kind == "member" and other.order and other.order["chord"] == job.order["chord"]
        ]
        return any(other.record and other.record["state"] in {"FAILED", "CANCELLED"} for other in header)

    def _outcome_problem(self, job: _Job, record: Event) -> str:
        for item in record["attempts"][:-1]:
            stops = [stop["code"] for stop in job.stops if stop["attempt"] == item["number"]]
            if item["cause"] == "exit" and item["code"] in stops and item["code"] == FIRST_CODE:
                continue
            nothing_ran = item["cause"] == "engine" and not any(s["attempt"] == item["number"] for s in job.starts)
            if nothing_ran or (item["cause"] in _SWARM_CAUSES | {"exit"} and self._node_fault(job, item["node"])):
                self.report.excused += 1
                continue
            return f"attempt {item}; the recorder has {stops}"
        told = job.order["code"] if job.order else None
        last = record["attempt"]
        if job.kind == "retried" and last == 1 and told is not None:
            told = FIRST_CODE
        starts = [start for start in job.starts if start["attempt"] == last]
        stops = [stop["code"] for stop in job.stops if stop["attempt"] == last]
        state, cause, code = record["state"], record["cause"], record["exit_code"]
        seen = f"{state}, cause {cause}, exit code {code} ({record['reason'][:100]}); the recorder has {stops}"
        if state == "SUCCEEDED":
            well = 0 in stops and told in {0, None} and code == 0
            return self._output_problem(job, record) if well else f"told {told}, recorded {seen}"
        if state == "CANCELLED":
            if not job.cancels:
                return f"nobody cancelled it: {seen}"
            return ""
        if cause == "exit" and code in stops and told in {code, None}:
            return self._output_problem(job, record)
        if (
            cause == "exit"
            and code == _MADE_UP
            and self._node_fault(job, record["node"], {"engine_kill", "leader_kill"})
        ):
            self.report.made_up += 1
            return ""
        if self._node_fault(job, record["node"]) and (
            cause in _SWARM_CAUSES or (cause == "exit" and code in _KILLED and not set(stops) - _KILLED)
        ):
            self.report.excused += 1
            return ""
        return f"told {told}, {len(starts)} starts, recorded {seen}"

    @staticmethod
    def _output_problem(job: _Job, record: Event) -> str:
        wanted = job.order["output"] if job.order else ""
        if not wanted or wanted in record["output"] or record["log_status"] != "complete":
            return ""
        return f"its output is said to be complete, but it is {record['output']!r} instead of {wanted!r}"

    def _node_fault(self, job: _Job, node: str | None, kinds: Collection[str] = _NODE_FAULTS) -> bool:
        """Whether a fault of the job's node explains that its container ended."""
        begin = min([start["t"] for start in job.starts] + ([job.ack] if job.ack else []), default=0.0)
        end = job.record["updated"] if job.record else self.end
        return any(
            fault.kind in kinds
            and (not node or not fault.node or fault.node == node)
            and fault.start <= end
            and fault.end + _AFTERMATH >= begin
            for fault in self.faults
        )

    def _result_problem(self, job: _Job, record: Event) -> str:
        result = job.result
        status = result["status"] if result else None
        if result is None or status is None:
            return "none"
        checked = not (job.order and job.order["kind"] == "unchecked")
        expected = {"SUCCEEDED": "SUCCESS", "CANCELLED": "REVOKED"}.get(
            record["state"], "FAILURE" if checked else "SUCCESS"
        )
        if status != expected:
            return f"{status} instead of {expected}; the ledger has {record['state']}"
        if status == "SUCCESS" and (result["code"], result["state"]) != (record["exit_code"], record["state"]):
            return f"{result['state']}, {result['code']}; the ledger has {record['state']}, {record['exit_code']}"
        return ""

    def _naive(self, job: _Job) -> None:
        if job.ack is None or job.order is None:
            return
        result = job.result
        if result is None or result["status"] not in {"SUCCESS", "FAILURE", "REVOKED"}:
            if not (job.kind == "cancelled" and job.cancels):
                self._find("lost", job.id, f"{job.kind}: {result['status'] if result else 'no result'}")
            return
        self.report.outcomes[f"{result['status']}/{result['code']}"] += 1
        stops = {stop["code"] for stop in job.stops}
        told, code = FIRST_CODE if job.kind == "retried" else job.order["code"], result["code"]
        if job.cancels and result["status"] == "REVOKED":
            return
        if code == told and code in stops:
            return
        # The container ran to its end, or there never was one, and the task failed of an answer that it did not get.
        own_doing = code is None and (told in stops or not job.starts)
        if not own_doing and not stops - _KILLED and self._node_fault(job, None):
            self.report.excused += 1
            return
        self._find("wrong", job.id, f"told {told}, the recorder has {sorted(stops)}, Celery {result['status']} {code}")

    # -- recovery -----------------------------------------------------------------------------------------------------

    def _recovery(self, job: _Job) -> None:
        end = (job.record or {}).get("updated") or (job.result or {}).get("done")
        if job.ack is None or not end or job.kind == "body":
            return
        first = min((start["t"] for start in job.starts), default=None)
        last = max((stop["t"] for stop in job.stops), default=None)
        if first is None:
            if job.kind == "cancelled":
                return
            spans = [(job.ack, end)]
        else:
            # A container that was killed has no end of its own; the fault that killed it is counted as its end.
            spans = [(job.ack, first)]
            if last is not None:
                spans.append((last, end))
        waits, left = [], []
        touched = False
        for begin, until in spans:
            if until <= begin:
                continue
            waits.append(until - begin)
            left.append(until - begin - self._excused_time(begin, until))
            touched = touched or any(fault.meets(begin - self._shadow(fault), until) for fault in self.faults)
        if waits:
            self.report.waits.append(max(waits))
            if touched:
                self.report.recovery.append(max(left))

    @staticmethod
    def _shadow(fault: _Fault) -> float:
        return 0.0 if fault.excuses else _SHORTLY

    def _excused_time(self, begin: float, until: float) -> float:
        """Return how much of a span is covered by faults during which one can only wait."""
        covered, reached = 0.0, begin
        for fault in sorted((fault for fault in self.faults if fault.excuses), key=lambda fault: fault.start):
            start, end = max(fault.start, reached), min(fault.end, until)
            if end > start:
                covered += end - start
                reached = end
        return covered


def _percentile(values: Sequence[float], share: float) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{ordered[min(int(share * len(ordered)), len(ordered) - 1)]:.1f} s"


def _rate(report: Report, kind: str) -> str:
    """Return how many findings of a kind there are, and, where there are any, for how many jobs and faults."""
    found = report.count(kind)
    if not found or not report.jobs:
        return str(found)
    return f"{found} ({1000 * found / report.jobs:.1f} per 1,000 jobs)"


def table(reports: Sequence[Report]) -> str:
    """Return the reports as a Markdown table, one column each."""
    rows: list[tuple[str, list[Any]]] = [
        ("", [report.mode for report in reports]),
        ("seed", [report.seed for report in reports]),
        ("minutes of faults", [f"{report.minutes:g}" for report in reports]),
        ("jobs acknowledged", [report.jobs for report in reports]),
        ("submissions refused", [report.refused for report in reports]),
        ("faults", [sum(report.faults.values()) for report in reports]),
    ]
    kinds = sorted({kind for report in reports for kind in report.faults})
    rows.extend((f"- {kind}", [report.faults[kind] for report in reports]) for kind in kinds)
    for name, kind in (
        ("**lost**", "lost"),
        ("**duplicate starts**", "duplicate"),
        ("**overlapping attempts**", "overlap"),
        ("**wrong outcomes**", "wrong"),
        ("services left behind", "leftover"),
    ):
        rows.append((name, [_rate(report, kind) for report in reports]))
    rows += [
        ("replies to a service's creation that were dropped", [report.dropped for report in reports]),
        ("faults that could not be injected", [report.not_injected for report in reports]),
        ("outcomes that a node's fault explains", [report.excused for report in reports]),
        ("exit codes that a restarted engine made up (255)", [report.made_up for report in reports]),
        ("containers that a restarted engine started again", [report.started_again for report in reports]),
        ("jobs whose container still ran when the campaign was over", [report.still_running for report in reports]),
        ("workers that ended by themselves", [report.worker_ends for report in reports]),
        ("recovery p50", [_percentile(report.recovery, 0.5) for report in reports]),
        ("recovery p99", [_percentile(report.recovery, 0.99) for report in reports]),
        ("recovery max", [_percentile(report.recovery, 1.0) for report in reports]),
        ("jobs that a fault touched", [len(report.recovery) for report in reports]),
    ]
    lines = [f"| {name} | " + " | ".join(str(value) for value in values) + " |" for name, values in rows]
    lines.insert(1, "|---" * (len(reports) + 1) + "|")
    return "\n".join(lines)
