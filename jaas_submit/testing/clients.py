"""The clients in memory."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from jaas_submit.client.async_client import AsyncClient
from jaas_submit.client.client import Client
from jaas_submit.client.job_handle import JobReference, ids_of
from jaas_submit.client.session import AsyncSession, Session
from jaas_submit.connection import AsyncSubscription
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import DEFAULT_PREFIX
from jaas_submit.testing.endings import Ending, Ends, succeeds
from jaas_submit.testing.memory import Memory, PlayedLedger

if TYPE_CHECKING:
    import celery

__all__ = ["FakeAsyncClient", "FakeClient"]

_MOST: Final = 100_000


class FakeClient(Client):
    """A ``Client`` without Redis and swarm: jobs end as the test says, before the call that submits them returns.

    It reads no variables of the environment. What has no worker has none here, too: nothing is retried, no time limit
    passes, no files come out of a container, and a signature of your own Celery app (``job``) goes elsewhere.

    Args:
        ends: how jobs end: an ``Ending``, or a function that returns one for a description. What the function raises
            comes out of the call that submits the job, which then stays RUNNING.
        memory: the memory that it shares with other clients; None has its own.

    Raises:
        JaasError: the packages of the extra ``testing`` are not installed.
    """

    # It takes the same parts as `Client`, and connects them to other things; so it does not call its __init__.
    def __init__(self, ends: Ends | None = None, *, memory: Memory | None = None) -> None:
        memory = memory or Memory()
        self.url = "memory://"
        self.queue = "jaas"
        self.store = None
        self.played = PlayedLedger(memory.connect(), DEFAULT_PREFIX, self.queue, succeeds() if ends is None else ends)
        """The records, for the methods of this class."""
        self.ledger = self.played
        self.session = Session(self.ledger, self.queue, None, lambda: self.app, publisher=None)

    @cached_property
    def app(self) -> celery.Celery:
        """A Celery app in memory."""
        from jaas_submit.messaging.app import memory_app

        return memory_app()

    def __enter__(self) -> FakeClient:
        return self

    @property
    def ends(self) -> Ends:
        """How jobs end that are submitted from now on; may be set."""
        return self.played.ends

    @ends.setter
    def ends(self, ends: Ends) -> None:
        self.played.ends = ends

    def submitted(self) -> list[JobSpec]:
        """Return the descriptions of all jobs, the first one first."""
        found = self.ledger.queries.find(self.ledger.queries.ids(None, _MOST))
        return [record.spec for record in reversed(found) if record.spec is not None]

    def end(self, job: JobReference | str, ending: Ending | None = None) -> None:
        """End a job that runs (``runs``).

        Args:
            job: its handle or id.
            ending: how; None: it succeeds.

        Raises:
            JaasError: it does not run.
            UnknownJob: there is no such job.
        """
        (job_id,) = ids_of([job])
        self.played.end(job_id, succeeds() if ending is None else ending)

    def play(self) -> None:
        """Start jobs whose time has come meanwhile (``not_before``); every call that writes does it, too."""
        self.played.play()


class FakeAsyncClient(AsyncClient):
    """``FakeClient`` for asyncio.

    Args:
        ends: as for ``FakeClient``.

    ``client.fake`` is the ``FakeClient`` with the same jobs: ``client.fake.end(job)``, ``client.fake.submitted()``.
    """

    # See `FakeClient`.
    def __init__(self, ends: Ends | None = None) -> None:
        memory = Memory()
        self.fake = FakeClient(ends, memory=memory)
        self.sync = self.fake
        self._connection = memory.connect_async()
        self.session = AsyncSession(self.sync.session, partial(AsyncSubscription, self._connection))

    async def __aenter__(self) -> FakeAsyncClient:
        return self

    async def close(self) -> None:
        """End it; it may not be used again."""
        await self._connection.aclose()
        self.sync.close()
