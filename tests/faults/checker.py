"""PURE: judges a campaign by its history, and nothing else.

Words:

* lost: the submission was acknowledged, and no outcome is recorded when everything has been quiet for long, though by
  the recorder no container of it still runs. A hostile entry that carries an id must have an outcome, too.
* duplicate start: two containers started for the same attempt of a job.
* overlap: attempt k+1 started before attempt k had ended.
* wrong outcome: what is recorded (ledger, Celery) is not what the recorder saw, and its cause is none that a fault of
  its node has (``causes.py``).
* wrong output: what the ledger keeps of an attempt's output, or what a follower was given, is not what the job printed
  (``output_check.py``): bytes that are said to be complete and are not, a wrong count of what is missing, no reason
  where there must be one, a gap or a repetition without a mark, or a follower that never ends.
* worker end: a worker or an agent that was up ended by itself; or one that was not, though nothing was away when it
  started.
* excused: the fault itself ended the container (its engine was killed or stopped, its node was lost or drained) and the
  outcome says so.
* not injected: a fault that failed itself, as when no manager could tell who leads; it may have done some of its harm.
* started again: the same container, by its own engine, which was killed before it had noted the start. Counted apart.
* hidden: the swarm stopped a container on its node's return, but its record of the node had changed again, by another
  change of leader, before a worker could look. The worker says ``preempted``. Counted apart.
* made up: the container ended while its engine was dead, and the restarted engine said 255 of it. Counted apart.
* wait: the time from the submission to the container's start, or from the container's end to the recorded outcome; the
  longer one counts. Recovery is what is left of it without the times in which a fault lasted during which jaas can only
  wait (Redis down, an engine away, a node cut off). The moment of a worker's death or suspension excuses nothing.
  Only jobs with a fault in one of these two spans, or shortly before it, count.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from tests.faults.causes import ENGINE_FAULTS, HOSTILE_CAUSES, NODE_FAULTS, Hit, possible_causes, true_code
from tests.faults.evidence import Evidence, JobEvidence
from tests.faults.history import Event
from tests.faults.output_check import followed_problem, kept_problem
from tests.faults.payload import Payload
from tests.faults.recorder import FIRST_CODE
from tests.faults.report import Finding, Report

__all__ = ["check"]

_MADE_UP: Final = 255
"""What an engine says of a container that ended while the engine itself was dead: it cannot know the exit code."""

_SHORTLY: Final = 45.0
"""Seconds for which a worker's death may show in later jobs: three leases."""

_STARTUP: Final = 60.0
"""Seconds before a worker's start in which what was away may have been why it could not start."""


def check(history: Iterable[Event]) -> Report:
    """Return the verdict on a campaign.

    Args:
        history: its events.
    """
    return _Checker(list(history)).check()


class _Checker:
    def __init__(self, events: list[Event]) -> None:
        found = Evidence(events)
        self.evidence = found
        self.jobs, self.hits, self.end = found.jobs, found.hits, found.end
        self.jaas = found.run["mode"] == "jaas"
        self.report = Report(found.run["mode"], found.run["seed"], found.run["minutes"])
        self.report.refused, self.report.not_injected = found.refused, found.not_injected
        self.report.dropped, self.report.faults = found.dropped, found.faults
        self.report.surprises = len(found.surprises)

    def check(self) -> Report:
        for job in list(self.jobs.values()):
            self._starts(job)
            if self.jaas:
                self._jaas(job)
                self._outputs(job)
                self._met(job)
            else:
                self._naive(job)
            self._recovery(job)
        self._hostile_ends()
        self._worker_ends()
        for service in self.evidence.services:
            if not service["kept"]:
                self._find("leftover", service["name"], "its job has ended, but the service is still there")
        self.report.jobs = sum(job.ack is not None for job in self.jobs.values())
        if floods := sum(job.kind == "flood" and bool(job.starts) for job in self.jobs.values()):
            self.report.faults["log_flood"] = floods
        return self.report

    def _find(self, kind: str, job: str, detail: str) -> None:
        self.report.findings.append(Finding(kind, job, detail))

    def _worker_ends(self) -> None:
        for started, event in self.evidence.worker_ends:
            self.report.worker_ends += 1
            if not self.jaas:
                continue
            excused = any(hit.excuses and hit.meets(started - _STARTUP, event["t"]) for hit in self.hits)
            if event.get("ready") or not excused:
                up = "was up" if event.get("ready") else "did not come up, and nothing was away"
                self._find("worker end", event["name"], f"at {event['t']}, {up}: {event.get('said', '')}")

    def _hostile_ends(self) -> None:
        """Every hostile entry that carries an id is a job, and has ended; no entry waits any more."""
        if left := self.evidence.messages_left:
            self._find("lost", "the queue", f"{left} messages wait or are unacknowledged")
        for job_id in self.evidence.hostile_ends:
            self.report.hostile += 1
            record = self.jobs[job_id].record if job_id in self.jobs else None
            if record is None or not record["terminal"]:
                self._find("lost", job_id, f"a hostile entry: {record['state'] if record else 'nowhere in the ledger'}")

    def _met(self, job: JobEvidence) -> None:
        """Count a job whose container ran when its node was cut off, or its engine stopped."""
        for item in job.record["attempts"] if job.record else ():
            starts = [start for start in job.starts if start["attempt"] == item["number"]]
            for start in starts:
                end = self._end_of(job, start) or self._updated(job)
                met = {hit.kind for hit in self.hits if hit.node == item["node"] and hit.meets(start["t"], end)}
                self.report.met.update(met & NODE_FAULTS)

    def _updated(self, job: JobEvidence) -> float:
        return float(job.record["updated"]) if job.record else self.end

    # -- container starts ---------------------------------------------------------------------------------------------

    def _starts(self, job: JobEvidence) -> None:
        by_attempt: dict[int, list[Event]] = defaultdict(list)
        for start in job.starts:
            by_attempt[start["attempt"]].append(start)
        for attempt, starts in by_attempt.items():
            if len({start["container"] for start in starts}) > 1:
                text = ", ".join(f"{start['container']} at {start['t']}" for start in starts)
                self._find("duplicate", job.id, f"attempt {attempt}: {text}")
            elif len(starts) > 1:
                self._started_again(job, attempt, starts)
        if not self.jaas:
            self._runs_overlap(job, [(start, start) for start in job.starts])
            return
        firsts = sorted((number, min(item["t"] for item in starts)) for number, starts in by_attempt.items())
        for (number, _), (later, began) in itertools.pairwise(firsts):
            ends = [self._end_of(job, start) for start in by_attempt[number]]
            if any(end is None or end > began for end in ends):
                self._find("overlap", job.id, f"attempt {later} began at {began}, attempt {number} ended at {ends}")

    def _started_again(self, job: JobEvidence, attempt: int, starts: Sequence[Event]) -> None:
        """One container was started twice: what an engine does that was killed before it had noted the start."""
        if self._reached(job, ENGINE_FAULTS):
            self.report.started_again += 1
        else:
            times = [start["t"] for start in starts]
            self._find("duplicate", job.id, f"attempt {attempt}: {starts[0]['container']} at {times}")

    def _runs_overlap(self, job: JobEvidence, runs: Sequence[tuple[Event, Event]]) -> None:
        """Of a system without attempts: two containers of one job at the same time."""
        ordered = sorted((start["t"], self._end_of(job, start)) for start, _ in runs)
        for (_, end), (began, _) in itertools.pairwise(ordered):
            if end is None or end > began:
                self._find("overlap", job.id, f"a container began at {began}, another one ended at {end}")

    @staticmethod
    def _end_of(job: JobEvidence, start: Event) -> float | None:
        return next((stop["t"] for stop in job.stops if stop["container"] == start["container"]), None)

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def _jaas(self, job: JobEvidence) -> None:
        record = job.record
        if self._is_hostile(job):
            self._hostile(job)
            return
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

    def _is_hostile(self, job: JobEvidence) -> bool:
        """Return whether none of the campaign's own orders made a job."""
        return job.order is None and job.ack is None and not job.starts and job.record is not None

    def _hostile(self, job: JobEvidence) -> None:
        record = job.record
        if record is None or job.id in self.evidence.hostile_records - self.evidence.hostile_ends:
            return
        if not record["terminal"]:
            if job.id not in self.evidence.hostile_ends:  # else it is told of anyway
                self._find("lost", job.id, f"a hostile entry without an id: {record['state']}")
            return
        self.report.hostile_outcomes[f"{record['state']}/{record['cause']}"] += 1
        began = float(record["created"])
        for item in record["attempts"]:
            if item["cause"] not in HOSTILE_CAUSES | possible_causes(
                self.hits, item["node"], began, self._updated(job)
            ):
                self._find("wrong", job.id, f"a hostile entry: {item}")

    def _never_due(self, job: JobEvidence) -> bool:
        """Whether a chord's body has no reason to run: a job of its header did not succeed."""
        if job.kind != "body" or job.order is None:
            return False
        header = [
            other
            for other in self.jobs.values()
            if other.kind == "member" and other.order and other.order["chord"] == job.order["chord"]
        ]
        return any(other.record and other.record["state"] in {"FAILED", "CANCELLED"} for other in header)

    def _outcome_problem(self, job: JobEvidence, record: Event) -> str:
        attempts = record["attempts"]
        for item in attempts:
            last = item is attempts[-1]
            if last and record["state"] == "CANCELLED":
                return "" if job.cancels and item["cause"] == "cancelled" else f"nobody cancelled it: {item}"
            if problem := self._end_problem(job, item, self._told(job, item["number"])):
                return problem
            if last and (record["state"] == "SUCCEEDED") != (item["cause"] == "exit" and item["code"] == 0):
                return f"{record['state']} after {item}"
        return "" if attempts or job.cancels else f"{record['state']} without an attempt"

    def _end_problem(self, job: JobEvidence, item: Event, told: int | None) -> str:
        """Return what is wrong with the recorded end of an attempt."""
        cause, code, stops = item["cause"], item["code"], job.stops_of(item["number"])
        self.report.causes[cause] += 1
        if cause == "exit" and code in stops and told in {code, None}:
            return ""
        node, began, end = item["node"], job.began(item["number"]), self._updated(job)
        died = any(hit.kind in ENGINE_FAULTS and hit.reaches(node, began, end) for hit in self.hits)
        if cause == "exit" and code == _MADE_UP and died:
            self.report.made_up += 1
            return ""
        possible = possible_causes(self.hits, node, began, end)
        if cause in possible and true_code(code, stops):
            self.report.excused += 1
            return ""
        if cause == "preempted" and "node_lost" in possible and true_code(code, stops) and self._hidden(job, item):
            self.report.hidden += 1
            return ""
        expected = ", ".join(sorted(possible)) or "exit"
        return f"told {told}, the recorder has {stops}, possible: {expected}; recorded {item}"

    @staticmethod
    def _told(job: JobEvidence, attempt: int) -> int | None:
        """Return the exit code that an attempt was told to end with."""
        if job.order is None:
            return None
        return FIRST_CODE if job.kind == "retried" and attempt == 1 else int(job.order["code"])

    # -- output -------------------------------------------------------------------------------------------------------

    def _outputs(self, job: JobEvidence) -> None:
        if job.order is None or job.record is None or not job.record["terminal"]:
            return
        payload = Payload(**job.order["payload"])
        for item in job.record["attempts"]:
            number, told = item["number"], item["output"]
            started = any(start["attempt"] == number for start in job.starts)
            if started:
                self.report.outputs[told["status"]] += 1
            if sum(start["attempt"] == number for start in job.starts) > 1:  # so it printed more than once
                continue
            killed = self._reached(job, ENGINE_FAULTS)
            problem = kept_problem(payload, told, started=started, whole=self._whole(job, number), killed=killed)
            if problem:
                self._find("wrong output", job.id, f"attempt {number} on {item['node']} ({item['cause']}): {problem}")
        if job.followed is None:
            return
        self.report.followed += 1
        if not job.followed["done"]:
            self._find("wrong output", job.id, "its follower has not ended")
        if job.followed["error"]:
            self.report.follow_errors += 1
        for item in job.followed["attempts"]:
            whole = item["number"] is not None and self._whole(job, item["number"])
            if problem := followed_problem(payload, item, whole=whole, killed=self._reached(job, ENGINE_FAULTS)):
                self._find("wrong output", job.id, f"followed, attempt {item['number']}: {problem}")

    def _whole(self, job: JobEvidence, attempt: int) -> bool:
        """Return whether an attempt's container has come to its own end, and so has printed everything."""
        return self._told(job, attempt) in job.stops_of(attempt)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _hidden(self, job: JobEvidence, item: Event) -> bool:
        """Return whether the swarm's record of the node changed again before a worker looked, and hid the return."""
        stopped = [stop["t"] for stop in job.stops if stop["attempt"] == item["number"]]
        node, end = item["node"], self._updated(job)
        return bool(stopped) and any(
            hit.kind == "manager_away" and hit.node == node and max(stopped) < hit.start <= end for hit in self.hits
        )

    def _reached(self, job: JobEvidence, kinds: frozenset[str]) -> bool:
        """Return whether a fault of these kinds may have ended one of a job's containers, on whichever node."""
        known = [start["t"] for start in job.starts] + ([job.ack] if job.ack is not None else [])
        begin, end = min(known, default=0.0), self._updated(job)
        return any(hit.kind in kinds and hit.reaches(None, begin, end) for hit in self.hits)

    def _result_problem(self, job: JobEvidence, record: Event) -> str:
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

    def _naive(self, job: JobEvidence) -> None:
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
        if not own_doing and all(true_code(stop, ()) for stop in stops) and self._reached(job, NODE_FAULTS):
            self.report.excused += 1
            return
        self._find("wrong", job.id, f"told {told}, the recorder has {sorted(stops)}, Celery {result['status']} {code}")

    # -- recovery -----------------------------------------------------------------------------------------------------

    def _recovery(self, job: JobEvidence) -> None:
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
            touched = touched or any(fault.meets(begin - self._shadow(fault), until) for fault in self.hits)
        if waits:
            self.report.waits.append(max(waits))
            if touched:
                self.report.recovery.append(max(left))

    @staticmethod
    def _shadow(fault: Hit) -> float:
        return 0.0 if fault.excuses else _SHORTLY

    def _excused_time(self, begin: float, until: float) -> float:
        """Return how much of a span is covered by faults during which one can only wait."""
        covered, reached = 0.0, begin
        for fault in sorted((fault for fault in self.hits if fault.excuses), key=lambda fault: fault.start):
            start, end = max(fault.start, reached), min(fault.end, until)
            if end > start:
                covered += end - start
                reached = end
        return covered
