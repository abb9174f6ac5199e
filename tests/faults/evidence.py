"""PURE: what the history of a campaign tells of its jobs, faults and workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.faults.causes import Hit
from tests.faults.history import Event

__all__ = ["Evidence", "JobEvidence"]

_MOMENTS = {"worker_kill", "worker_term", "half_open", "client_kill", "create_lost", "hostile"} | {
    "agent_kill",
    "agent_term",
    "agent_silent",
}
"""Faults that are over at once, whenever they are healed."""


@dataclass
class JobEvidence:
    """All that the history tells of one job."""

    id: str
    order: Event | None = None
    ack: float | None = None
    starts: list[Event] = field(default_factory=list)
    stops: list[Event] = field(default_factory=list)
    cancels: list[Event] = field(default_factory=list)
    record: Event | None = None
    result: Event | None = None
    followed: Event | None = None
    """What a reader got that followed its output."""

    @property
    def kind(self) -> str:
        """Of its order."""
        return str(self.order["kind"]) if self.order else "unacknowledged"

    def stops_of(self, attempt: int) -> list[int]:
        """Return the exit codes that an attempt's containers noted."""
        return [stop["code"] for stop in self.stops if stop["attempt"] == attempt]

    def began(self, attempt: int) -> float:
        """Return when an attempt's container started; where it never did, when the job was submitted."""
        known = [start["t"] for start in self.starts if start["attempt"] == attempt]
        return min(known or ([self.ack] if self.ack is not None else []), default=0.0)


class Evidence:
    """The history, sorted.

    Args:
        events: of the history.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = list(events)
        self.end = max((event["t"] for event in self._events), default=0.0)
        self.run: Event = {}
        self.jobs: dict[str, JobEvidence] = {}
        self.hits: list[Hit] = []
        self.services: list[Event] = []
        self.surprises: list[Event] = []
        """Tracebacks that jaas logged."""
        self.worker_ends: list[tuple[float, Event]] = []
        """When a worker started that ended by itself, and its end."""
        self.hostile_records: set[str] = set()
        """Ids of records that hostile entries wrote themselves."""
        self.hostile_ends: set[str] = set()
        """Ids of jobs that hostile entries must have become."""
        self.messages_left = 0
        """In the queue, or unacknowledged, when everything had been quiet for long."""
        self.refused = 0
        self.dropped = 0
        self.faults: Counter[str] = Counter()
        self.not_injected = 0
        self._read()
        self._manager_hits()

    def job(self, job_id: str) -> JobEvidence:
        """Return a job's evidence."""
        return self.jobs.setdefault(job_id, JobEvidence(job_id))

    def _read(self) -> None:
        orders: dict[int, Event] = {}
        injected: dict[int, Event] = {}
        healed: dict[int, float] = {}
        found: dict[int, Event] = {}
        started: dict[str, float] = {}
        for event in self._events:
            match event["e"]:
                case "run":
                    self.run = event
                case "order":
                    orders[event["n"]] = event
                case "ack":
                    job = self.job(event["id"])
                    job.ack, job.order = event["t"], orders[event["n"]]
                case "refused":
                    self.refused += 1
                case "start":
                    self.job(event["id"]).starts.append(event)
                case "stop":
                    self.job(event["id"]).stops.append(event)
                case "cancel":
                    self.job(event["id"]).cancels.append(event)
                case "record":
                    job = self.job(event["id"])
                    job.record = event
                    if job.order is None and event.get("n") in orders:  # its submission was not acknowledged
                        job.order = orders[event["n"]]
                case "followed":
                    self.job(event["id"]).followed = event
                case "result":
                    self.job(event["id"]).result = event
                case "inject":
                    injected[event["fault"]] = event
                case "injected":
                    found[event["fault"]] = event
                case "heal":
                    healed[event["fault"]] = event["t"]
                case "worker" if event["what"] == "start":
                    started[event["name"]] = event["t"]
                case "worker" if event["what"] == "end" and not event["expected"]:
                    self.worker_ends.append((started.get(event["name"], 0.0), event))
                case "surprise":
                    self.surprises.append(event)
                case "messages":
                    self.messages_left = event["left"]
                case "dropped":
                    self.dropped = event["replies"]
                case "service":
                    self.services.append(event)
        for number, event in injected.items():
            self._fault(number, event, found.get(number), healed.get(number, self.end))

    def _fault(self, number: int, event: Event, found: Event | None, healed: float) -> None:
        known = found["known"] if found else {}
        self.hits.extend(_hits(number, event, known, healed))
        if found is None:
            self.not_injected += 1
        elif not known.get("refused"):
            self.faults[event["kind"]] += 1
        self.hostile_records |= set(known.get("records", ()))
        self.hostile_ends |= set(known.get("ends", ()))

    def _manager_hits(self) -> None:
        """Add the times in which no manager answered, whatever the cause, to the faults that excuse waiting.

        And those in which one did not, to the faults of its node.
        """
        answers: dict[int, bool] = {}
        away: dict[int, float] = {}
        since: float | None = None
        for event in self._events:
            if event["e"] != "manager":
                continue
            if not event["answers"]:
                away.setdefault(event["node"], event["t"])
            elif (gone := away.pop(event["node"], None)) is not None:
                self.hits.append(Hit(0, "manager_away", gone, event["t"], f"node{event['node']}", False))
            answers[event["node"]] = event["answers"]
            if any(answers.values()):
                if since is not None:
                    self.hits.append(Hit(0, "no_manager", since, event["t"], "", True))
                since = None
            elif since is None:
                since = event["t"]


def _hits(number: int, event: Event, known: Event, healed: float) -> Iterator[Hit]:
    """Yield a fault, or what it did to one node after the other."""
    kind, excuses = event["kind"], event["excuses"]
    if "hits" in known:
        for node, start, end in known["hits"]:
            yield Hit(number, kind, start, end, f"node{node}", excuses)
        return
    node = known.get("node", event["parameters"].get("node"))
    yield Hit(
        number, kind, event["t"], event["t"] if kind in _MOMENTS else healed, f"node{node}" if node else "", excuses
    )
