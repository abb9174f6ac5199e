"""The connections of one client, and two ways of waiting with them: a thread's, and asyncio's."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jaas_submit.client.wait import Found, Listen, Read, Sleep, Steps, Subscribe
from jaas_submit.connection import AsyncSubscription, Subscription
from jaas_submit.errors import LedgerUnavailable, SpecError
from jaas_submit.ledger import Ledger
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import JobRecord
from jaas_submit.output import AgentLeases, Feeds, is_full, release_memory
from jaas_submit.signing import Signer
from jaas_submit.storage.store import Store

if TYPE_CHECKING:
    import celery

__all__ = ["AsyncSession", "Session"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """What handles, batches and map/reduce share.

    Args:
        ledger: the records.
        queue: Celery queue of the workers.
        store: of large values; None where there is none.
        app: returns the Celery app whose result backend is told of cancellations.
        publisher: Celery app that publishes the messages; None leaves that to the ledger's own Redis.
        signer: signs the descriptions; None leaves them unsigned.
    """

    ledger: Ledger
    queue: str
    store: Store | None
    app: Callable[[], celery.Celery]
    publisher: celery.Celery | None
    signer: Signer | None = None

    def keep(self, job_id: str, value: Any) -> Any:
        """Return a job's input, or a reference to it if it is large and there is a store.

        Raises:
            StoreUnavailable: it could not be stored.
        """
        return value if self.store is None else self.store.keep(job_id, "input.json", value)

    def fetch(self, value: Any) -> Any:
        """Return an output, read from the store if it is a reference; see ``Client.fetch``."""
        # Only from our own store: a container's output must not make a producer read anything else.
        return json.loads(self.store.read(value)) if self.store is not None and self.store.holds(value) else value

    def spec_again(self, record: JobRecord) -> JobSpec | None:
        """Return a job's description, for submitting it again; None where its record has none.

        Whoever can write to Redis can change a record. A client that signs takes what its own key has signed, so that
        nobody gets its signature that way.

        Args:
            record: the job.

        Raises:
            SpecError: the client signs, and its key has not signed the description.
        """
        if self.signer is None or record.spec is None:
            return record.submitted or record.spec
        return self.signer.own_description(record.id, record.signed, record.copy_of)

    def subscribe(self, channel: str, *others: str) -> Subscription:
        """Return a subscription to one or more channels, not started yet."""
        return Subscription(self.ledger.client, channel, *others)

    def write(self, call: Callable[[], T]) -> T:
        """Call a function that writes to the ledger; where Redis is full, delete live output and call it again.

        Args:
            call: the function.
        """
        try:
            return call()
        except LedgerUnavailable as error:
            if not (is_full(error) and release_memory(self.ledger.client, self.ledger.prefix)):
                raise
        return call()

    def check(self, specs: Iterable[JobSpec | None]) -> None:
        """Refuse descriptions that ask for files which nobody could hand out.

        Args:
            specs: of jobs that are about to be enqueued.

        Raises:
            SpecError: there is no store, or no node has an agent.
            LedgerUnavailable: Redis does not answer.
        """
        if not any(spec is not None and spec.outputs for spec in specs):
            return
        if self.store is None:
            raise SpecError(
                "outputs: files go into a store; set JAAS_STORE_URL (or Client(store=...)) here and for the workers",
                field="outputs",
            )
        if not AgentLeases(self.ledger.client, self.ledger.prefix).nodes():
            raise SpecError(
                "outputs: no node has an agent that could take files out of a container; start a worker, or `jaas "
                "agent` on the nodes that are no managers",
                field="outputs",
            )

    def feeds(self) -> Feeds:
        """Return the live output of jobs."""
        return Feeds(self.ledger.client, self.ledger.prefix)

    def run(self, steps: Steps[T]) -> Iterator[T]:
        """Carry out steps in this thread; yield what they find."""
        go_on: Callable[[], Any] = partial(next, steps)
        with contextlib.ExitStack() as subscription:
            while (step := _next(go_on)) is not None:
                answer: Any = None
                try:
                    match step:
                        case Subscribe(channel, others):
                            subscription.close()
                            changes = subscription.enter_context(self.subscribe(channel, *others))
                        case Read(call):
                            answer = call()
                        case Listen(seconds):
                            answer = changes.next(seconds)
                        case Sleep(seconds):
                            time.sleep(seconds)
                        case Found(value):
                            yield value
                except LedgerUnavailable as error:
                    go_on = partial(steps.throw, error)
                else:
                    go_on = partial(steps.send, answer)


@dataclass(frozen=True, slots=True)
class AsyncSession:
    """The same for asyncio. Waiting occupies no thread; each read occupies one until Redis answers.

    Args:
        sync: the connections of the threads that read.
        subscribe: makes a subscription to one or more channels.
    """

    sync: Session
    subscribe: Callable[..., AsyncSubscription]

    async def run(self, steps: Steps[T]) -> AsyncIterator[T]:
        """Carry out steps in this task; yield what they find."""
        import asyncio

        go_on: Callable[[], Any] = partial(next, steps)
        async with contextlib.AsyncExitStack() as subscription:
            while (step := _next(go_on)) is not None:
                answer: Any = None
                try:
                    match step:
                        case Subscribe(channel, others):
                            await subscription.aclose()
                            changes = await subscription.enter_async_context(self.subscribe(channel, *others))
                        case Read(call):
                            answer = await asyncio.to_thread(call)
                        case Listen(seconds):
                            answer = await changes.next(seconds)
                        case Sleep(seconds):
                            await asyncio.sleep(seconds)
                        case Found(value):
                            yield value
                except LedgerUnavailable as error:
                    go_on = partial(steps.throw, error)
                else:
                    go_on = partial(steps.send, answer)


def _next(go_on: Callable[[], Any]) -> Any:
    """Return the next step; None when there is none."""
    try:
        return go_on()
    except StopIteration:
        return None
