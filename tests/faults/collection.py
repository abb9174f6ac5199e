"""What a campaign asks of ledger, Celery, swarm and logs while its last jobs end, and when all have ended."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Any

from jaas_submit.connection import connect
from jaas_submit.errors import JaasError
from jaas_submit.ledger import Ledger
from jaas_submit.messaging.queues import lists_of
from jaas_submit.model.logs import STREAMS, LogGap
from jaas_submit.model.records import Attempt, JobRecord
from jaas_submit.model.wire_names import LABEL_JOB, LABEL_PREFIX
from tests.faults.evidence import Evidence
from tests.faults.fault import Bench
from tests.faults.history import Event, History, now, read
from tests.faults.recorder import Recorder
from tests.fuzz.worker import SURPRISE

__all__ = ["Collection"]


class Collection:
    """Reads all that there is to know.

    Args:
        mode: ``jaas`` or ``baseline``.
        bench: what the faults were injected into.
        channel: the producers' way to the workers.
        recorder: of the containers' starts.
        history: is read, and gets what was found.
    """

    def __init__(self, mode: str, bench: Bench, channel: Any, recorder: Recorder, history: History) -> None:
        self._mode = mode
        self._bench = bench
        self._channel = channel
        self._recorder = recorder
        self._history = history
        self._ended: set[str] = set()

    @property
    def _ledger(self) -> Ledger:
        ledger: Ledger = self._channel.client.ledger
        return ledger

    def open(self) -> int:
        """Return how many jobs have no outcome yet, and messages no record, without chords' bodies that have not begun.

        What hostile entries became is cancelled, where it has not ended.
        """
        events = list(read(self._history.path))
        bodies = {event["n"] for event in events if event["e"] == "order" and event["kind"] == "body"}
        ids = {event["id"] for event in events if event["e"] == "ack" and event["n"] not in bodies}
        if self._mode == "jaas":
            evidence = Evidence(events)
            own = set(evidence.jobs)
            ids |= set(self._ledger.queries.ids(limit=10**6)) | evidence.hostile_ends
            ids -= evidence.hostile_records - evidence.hostile_ends
            for record in self._records(sorted(ids - self._ended)):
                hostile = record.id not in own and self._number(record) is None
                if record.terminal and (record.reported or hostile):
                    self._ended.add(record.id)
                elif hostile and not record.terminal:
                    with contextlib.suppress(JaasError):
                        self._channel.cancel(record.id)
        else:
            results = self._results(ids - self._ended)
            self._ended |= {key for key, item in results.items() if item["status"] in {"SUCCESS", "FAILURE", "REVOKED"}}
        return len(ids - self._ended) + (self._waiting() if self._mode == "jaas" else 0)

    def _waiting(self) -> int:
        """Return how many messages wait in the queue, or have been received and not acknowledged."""
        prefix = self._bench.prefix
        with self._bench.client() as client:
            return int(sum(client.llen(name) for name in lists_of(prefix)) + client.hlen(f"{prefix}:unacked"))

    def _records(self, ids: list[str]) -> list[JobRecord]:
        find = self._ledger.queries.find
        return [record for start in range(0, len(ids), 200) for record in find(ids[start : start + 200])]

    def _results(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        return {job_id: self._channel.result(job_id) for job_id in ids}

    @staticmethod
    def _number(record: JobRecord) -> int | None:
        """Return the number of the order that made a job; None for what is none of the campaign's own."""
        found = record.spec.labels.get("n", "") if record.spec else ""
        return int(found) if found.isdecimal() else None

    def collect(self, wait_for: Callable[[Callable[[], bool], float, str], bool]) -> None:
        """Write down all that there is to know.

        Args:
            wait_for: waits for a condition, for so many seconds, with a name.
        """
        add = self._history.add
        for event in self._recorder.events():
            add(event.pop("e"), **event)
        add("dropped", replies=sum(proxy.dropped for proxy in self._bench.engine_proxies))
        if self._mode == "jaas":
            self._collect_jaas()
            self._collect_surprises()
        else:
            acked = {event["id"] for event in read(self._history.path) if event["e"] == "ack"}
            for job_id, result in self._results(acked).items():
                add("result", id=job_id, **result)
        self._collect_services(wait_for)

    def _collect_jaas(self) -> None:
        events = list(read(self._history.path))
        acked = {event["id"] for event in events if event["e"] == "ack"}
        # A hostile entry may have written its record without an entry in the index of all jobs.
        ids = {*self._ledger.queries.ids(limit=10**6), *Evidence(events).hostile_ends}
        with connect(self._bench.redis.url) as client:
            offset = time.time() - now()
            for record in self._records(sorted(ids)):
                number = self._number(record)
                self._history.add("record", **self._record(record, number, offset))
                if number is not None or record.id in acked:
                    self._history.add("result", id=record.id, **self._celery_result(record))
            self._history.add("messages", left=self._waiting())
            self._history.add("redis", memory=client.info("memory")["used_memory"], keys=client.dbsize())

    def _record(self, record: JobRecord, number: int | None, offset: float) -> Event:
        last = record.last
        return {
            "id": record.id,
            "n": number,
            "state": str(record.state),
            "terminal": record.terminal,
            "cause": str(last.cause) if last else None,
            "reason": last.reason if last else "",
            "exit_code": last.exit_code if last else None,
            "attempt": last.number if last else 0,
            "node": last.node if last else None,
            "attempts": [
                {
                    "number": item.number,
                    "cause": str(item.cause),
                    "code": item.exit_code,
                    "node": item.node,
                    "reason": item.reason,
                    "output": self._output(record.id, item),
                }
                for item in record.attempts
            ],
            "reported": record.reported,
            "late": record.late,
            "holder": record.holder,
            "created": record.created_at.timestamp() - offset,
            "updated": record.updated_at.timestamp() - offset,
        }

    def _output(self, job_id: str, attempt: Attempt) -> Event:
        """Return what the ledger says of an attempt's output, with digests in place of bytes."""
        status = str(attempt.log_status)
        logs = self._ledger.queries.logs(job_id, attempt.number) if attempt.number else None
        if logs is None:
            return {"status": status, "kept": False}
        told = {"status": status, "kept": True, "reason": logs.reason, "said": str(logs.status)}
        return {**told, **{stream: [_part(part) for part in logs.parts(stream)] for stream in STREAMS}}

    def _celery_result(self, record: JobRecord) -> Event:
        found = self._channel.app.backend.get_task_meta(record.task_id)
        status, value = found["status"], found["result"]
        fields = value if isinstance(value, dict) else {}
        return {
            "status": None if status == "PENDING" else status,
            "state": fields.get("state"),
            "code": fields.get("exit_code"),
            "error": repr(value)[:200] if isinstance(value, Exception) else "",
        }

    def _collect_surprises(self) -> None:
        for worker in (*self._bench.workers, *self._bench.agents):
            for found in SURPRISE.finditer(worker.log.read_text(errors="replace")):
                self._history.add("surprise", name=worker.name, said=found[1][:300], error=found[2][:300])

    def _collect_services(self, wait_for: Callable[[Callable[[], bool], float, str], bool]) -> None:
        """Note the services that are still there; those of late launches are kept on purpose for a while."""
        late = set()
        if self._mode == "jaas":
            late = {record.id for record in self._records(self._ledger.queries.ids(limit=10**6)) if record.late}
        left: list[dict[str, Any]] = []

        def swept() -> bool:
            nonlocal left
            left = self._bench.lab.services(f"{LABEL_PREFIX}={self._bench.prefix}")
            return all(item["Spec"]["Labels"].get(LABEL_JOB) in late for item in left)

        wait_for(swept, 90, "the reconciler to remove services that were left behind")
        for item in left:
            labels = item["Spec"]["Labels"]
            self._history.add(
                "service", name=item["Spec"]["Name"], id=labels.get(LABEL_JOB, ""), kept=labels.get(LABEL_JOB) in late
            )


def _part(part: bytes | LogGap) -> list[Any]:
    if isinstance(part, LogGap):
        return ["gap", part.missing, part.exact]
    return ["bytes", len(part), hashlib.sha256(part).hexdigest()]
