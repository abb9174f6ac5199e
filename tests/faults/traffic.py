"""The producers: jobs of all kinds, drawn from a seeded generator, submitted continuously whatever happens.

Each job carries its number in the label ``n``, so that one whose submission was not acknowledged is known again
should it run nevertheless.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import celery
import redis

from jaas_submit import Client, job
from jaas_submit.errors import JaasError
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from jaas_submit.model.service_options.mounts import Mount
from jaas_submit.model.states import JobState
from tests.faults.history import History, now
from tests.faults.payload import FLOOD_BYTES, NOTHING, Payload, payload_of
from tests.faults.recorder import INSIDE, Recorder, script
from tests.support.witness import TEST_IMAGE

__all__ = ["Channel", "JaasChannel", "Order", "Traffic", "orders", "spec_of"]

KINDS: Final = {
    "plain": 60,
    "unchecked": 8,
    "foreign": 12,
    "chord": 6,
    "cancelled": 12,
    "retried": 10,
    "flood": 0.4,
    "long": 8,
}
"""Kinds of jobs and their weights; a chord is three jobs. Long ones run while their node is away and returns."""


FOLLOWED: Final = frozenset({"plain", "unchecked", "cancelled", "retried", "long"})
"""Kinds of which some are followed. A flood is not: reading it as quickly as it comes takes a processor of its own."""

MOST_WAITING: Final = 12
"""No orders while so many jobs wait for a worker: how fast a machine starts containers is not what is tested, and in a
queue that only grows faults do not meet running jobs. Those that wait for a node that is away are not counted."""


@dataclass(frozen=True)
class Order:
    """A job that is to be submitted."""

    n: int
    kind: str
    seconds: float
    code: int = 0
    payload: Payload = NOTHING
    cancel_after: float | None = None
    followed: bool = False
    """Somebody reads its output while it runs."""
    members: tuple[Order, ...] = field(default=())
    """Of a chord: its header's jobs and, last, its body."""


def orders(rng: random.Random) -> Any:
    """Yield orders without end. The same seed of the generator gives the same orders."""
    numbers = itertools.count(1)

    def one(kind: str) -> Order:
        n = next(numbers)
        code = rng.choice([1, 2, 7, 42, 100]) if kind in {"plain", "unchecked", "foreign"} and rng.random() < 0.2 else 0
        seconds = rng.choice([0, 0, rng.uniform(0, 3), rng.uniform(0, 8), rng.uniform(5, 20)])
        if kind == "cancelled":
            seconds = rng.uniform(3, 20)
        if kind == "long":
            seconds = rng.uniform(30, 100)
        payload = payload_of(rng, seconds, steady=rng.random() < 0.5)
        if kind == "flood":
            payload = Payload("flood", stdout=FLOOD_BYTES)
        cancel = rng.uniform(0, 8) if kind == "cancelled" else None
        followed = kind in FOLLOWED and rng.random() < 0.3
        return Order(n, kind, round(seconds, 2), code, payload, cancel, followed)

    while True:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "chord":
            members = (*tuple(one("member") for _ in range(2)), one("body"))
            yield Order(next(numbers), kind, 0.0, members=members)
        else:
            yield one(kind)


def spec_of(order: Order, recorder: Recorder) -> JobSpec:
    """Return the job description of an order."""
    again = order.kind == "retried"
    recorder.provide(order.payload)
    text = script(order.seconds, order.code, order.payload, again=again)
    backoff = Backoff(kind="constant", delay=0.5)
    return JobSpec(
        image=TEST_IMAGE,
        command=["sh", "-c", text],
        mounts=(Mount(source=str(recorder.folder), target=INSIDE),),
        labels={"n": str(order.n)},
        check=order.kind != "unchecked",
        stop_grace=5,
        retry=RetryPolicy(max_attempts=2, max_cluster_retries=3, backoff=backoff) if again else RetryPolicy(),
    )


class Channel(Protocol):
    """How orders reach the workers."""

    def submit(self, order: Order) -> dict[int, str]:
        """Submit an order; return the ids of its jobs by their numbers. Raises what the producer would see."""

    def cancel(self, job_id: str) -> str:
        """Ask for a job's end; return the state it was in."""

    def waiting(self) -> int:
        """Return how many jobs have been submitted and are not with the swarm yet; 0 while nobody can tell."""


class JaasChannel:
    """jaas' own client for most, a stock Celery app for foreign jobs and chords.

    Args:
        url: of Redis.
        queue: of the workers.
        prefix: of the ledger.
        recorder: mounted by the jobs.
    """

    def __init__(self, url: str, queue: str, prefix: str, recorder: Recorder) -> None:
        self.client = Client(url, queue=queue, prefix=prefix)
        self.app = celery.Celery("producer", broker=url, backend=url, set_as_current=False)
        self.app.conf.broker_transport_options = {"socket_connect_timeout": 5, "socket_timeout": 10}
        self._queue = queue
        self._recorder = recorder

    def submit(self, order: Order) -> dict[int, str]:
        if order.kind == "chord":
            ids = {member.n: str(uuid.uuid4()) for member in order.members}
            *header, body = [
                job(spec_of(member, self._recorder), queue=self._queue).set(task_id=ids[member.n])
                for member in order.members
            ]
            celery.chord(header, body, app=self.app).apply_async()
            return ids
        spec = spec_of(order, self._recorder)
        if order.kind == "foreign":
            job_id = str(uuid.uuid4())
            self.app.send_task("jaas.run", kwargs={"spec": spec.to_wire()}, queue=self._queue, task_id=job_id)
            return {order.n: job_id}
        return {order.n: self.client.submit(spec).id}

    def cancel(self, job_id: str) -> str:
        return str(self.client.cancel(job_id))

    def waiting(self) -> int:
        ledger = self.client.ledger
        try:
            counts, messages = ledger.queries.counts(), int(ledger.client.llen(self._queue))
        except (JaasError, redis.RedisError):
            return 0
        return max(counts[JobState.QUEUED], messages) + counts[JobState.LAUNCHING]


class Traffic:
    """Submits orders at random intervals on a thread of its own, until it is stopped or has enough.

    Args:
        channel: the way to the workers.
        history: is told of each order, acknowledgement and cancellation.
        seed: of the generator.
        rate: orders a second on average.
        count: at most so many orders.
        follow: is told number and id of each job that is to be followed.
    """

    def __init__(
        self,
        channel: Channel,
        history: History,
        seed: int,
        rate: float,
        count: int,
        follow: Callable[[int, str], None],
    ) -> None:
        self._channel = channel
        self._history = history
        self._rng = random.Random(f"{seed}/traffic")
        self._rate = rate
        self._count = count
        self._follow = follow
        self._stopped = threading.Event()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.submitted = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Submit no more; cancellations that are due later are asked for now."""
        self._stopped.set()
        self._thread.join(60)
        for _, _, call in sorted(self._due, key=lambda item: item[:2]):
            call()

    def _run(self) -> None:
        source = orders(self._rng)
        next_order = now()
        while not self._stopped.is_set():
            if self._due and self._due[0][0] <= now():
                heapq.heappop(self._due)[2]()
                continue
            if now() >= next_order and self.submitted < self._count:
                if self._channel.waiting() >= MOST_WAITING:
                    next_order = now() + 0.5
                    continue
                # A producer that was held up catches up: the workers are to feel the burst.
                next_order += self._rng.expovariate(self._rate)
                self.submitted += 1
                self._submit(next(source))
                continue
            self._stopped.wait(0.02)

    def _submit(self, order: Order) -> None:
        parts = order.members or (order,)
        for part in parts:
            self._history.add(
                "order",
                n=part.n,
                kind=part.kind,
                chord=order.n if order.members else None,
                seconds=part.seconds,
                code=part.code,
                payload=part.payload.to_event(),
            )
        try:
            ids = self._channel.submit(order)
        except Exception as error:  # noqa: BLE001 (whatever a producer is told, it is not an acknowledgement)
            for part in parts:
                self._history.add("refused", n=part.n, error=repr(error)[:300])
            return
        for part in parts:
            self._history.add("ack", n=part.n, id=ids[part.n])
        if order.followed:
            self._follow(order.n, ids[order.n])
        if order.cancel_after is not None:
            self._later(order.cancel_after, lambda: self._cancel(order.n, ids[order.n], 0))

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (now() + delay, next(self._numbers), call))

    def _cancel(self, n: int, job_id: str, tries: int) -> None:
        try:
            state = self._channel.cancel(job_id)
        except JaasError as error:
            self._history.add("cancel", n=n, id=job_id, done=False, error=str(error)[:200])
            if tries < 10:
                self._later(2.0, lambda: self._cancel(n, job_id, tries + 1))
            return
        self._history.add("cancel", n=n, id=job_id, done=True, state=state)
