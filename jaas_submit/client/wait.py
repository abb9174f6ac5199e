"""PURE: waiting for jobs and batches: what is read, when, and how long a Redis may be away. Does no I/O itself.

Each function here is a generator of steps. Who runs it (``Session.run``, ``AsyncSession.run``) carries a step out,
sends the answer back in, and throws LedgerUnavailable in where Redis did not give one. So threads and asyncio wait by
the same rules.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from jaas_submit.client import queries
from jaas_submit.errors import BatchFailed, LedgerUnavailable, WaitTimeout
from jaas_submit.ledger import Ledger
from jaas_submit.model.records import BatchRecord, JobRecord
from jaas_submit.model.result import JobResult
from jaas_submit.model.states import JobState

__all__ = [
    "POLL_INTERVAL_S",
    "REDIS_OUTAGE_TIMEOUT_S",
    "Found",
    "Listen",
    "Outage",
    "Read",
    "Sleep",
    "Steps",
    "Subscribe",
    "batch_records",
    "batch_results",
    "job_records",
    "job_result",
]

REDIS_OUTAGE_TIMEOUT_S: Final = 60.0
"""Seconds for which whoever waits tolerates a Redis that does not answer, once it has answered."""

POLL_INTERVAL_S: Final = 2.0
"""Seconds after which the ledger is read even without a notice: pub/sub may lose one."""

RETRY_PAUSE_S: Final = 1.0
"""Seconds between two attempts to reach a Redis that is away."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to a channel, and perhaps others, instead of the former ones."""

    channel: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """Call a function that reads from Redis; the answer is what it returns."""

    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Listen:
    """Wait for a notice on the channels, for at most this many seconds; the answer is the notice, or None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """Return a value to the caller."""

    value: T


Steps = Generator[Subscribe | Read | Listen | Sleep | Found[T], Any, None]
"""The steps that find values."""

_Look = Callable[[], Generator[Read | Found[T], Any, str | None]]
"""Reads the present state, and returns it in words; None when the wait is over."""


class Outage:
    """How long a Redis that does not answer is tolerated; ``REDIS_OUTAGE_TIMEOUT_S`` says for how long.

    A Redis that has never answered is not tolerated: the URL may be wrong.

    Args:
        begins: called when Redis stops answering, before it is tried again.
    """

    def __init__(self, begins: Callable[[], None] | None = None) -> None:
        self.answered = False
        """Whether Redis has ever answered. One answer does not end an outage: see ``over``."""
        self._begins = begins
        self._since: float | None = None

    def over(self) -> None:
        """Register that Redis has answered everything, or that something was found."""
        self.answered, self._since = True, None

    def retry_delay(self, error: LedgerUnavailable) -> float:
        """Return the seconds to sleep before Redis is tried again.

        Args:
            error: the last one.

        Raises:
            LedgerUnavailable: the same error: Redis has never answered, or the outage is too long.
        """
        now = time.monotonic()
        if not self.answered or (self._since is not None and now - self._since > REDIS_OUTAGE_TIMEOUT_S):
            raise error
        if self._since is None:
            self._since = now
            if self._begins is not None:
                self._begins()
        return RETRY_PAUSE_S


class _Deadline:
    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    @property
    def left(self) -> float:
        return POLL_INTERVAL_S if self._end is None else self._end - time.monotonic()

    def pause(self, standing: str, why: str = "") -> float:
        """Return for how many seconds to listen; raise WaitTimeout if the time has passed, and say why."""
        if self.left <= 0:
            raise WaitTimeout(f"{standing} after {round(self._timeout or 0, 1):g} s; it goes on{why}")
        return min(POLL_INTERVAL_S, self.left)


def _watch(
    channel: str, look: _Look[T], deadline: _Deadline, outage: Outage, why: Callable[[], str] | None = None
) -> Steps[T]:
    """Read, and read again after each notice, until the wait is over. ``why`` adds to the text of a time-out."""
    while True:
        # A lost connection ends the subscription; the next read finds what was missed.
        try:
            yield Subscribe(channel)
            while (standing := (yield from look())) is not None:
                outage.over()
                more: str = (yield Read(why)) if deadline.left <= 0 and why is not None else ""
                yield Listen(deadline.pause(standing, more))
        except LedgerUnavailable as error:
            if deadline.left <= 0:
                raise
            yield Sleep(outage.retry_delay(error))
        else:
            return


def _job(
    job_id: str,
    look: _Look[T],
    ledger: Ledger,
    timeout: float | None,
    outage: Outage | None,
    why: Callable[[], str] | None = None,
) -> Steps[T]:
    yield from _watch(ledger.queries.changes_channel + job_id, look, _Deadline(timeout), outage or Outage(), why)


def job_records(
    ledger: Ledger, job_id: str, timeout: float | None = None, outage: Outage | None = None
) -> Steps[JobRecord]:
    """Find a job's present record, and again whenever its state or detail has changed, up to its end.

    Args:
        ledger: where the job is.
        job_id: the job's id.
        timeout: seconds to wait in all; None waits for ever.
        outage: how long a Redis that is away is tolerated; None begins anew.

    Raises:
        WaitTimeout: the time has passed.
        UnknownJob: there is no record.
        LedgerUnavailable: Redis has never answered, or the outage is too long.
    """
    seen: tuple[JobState, str] | None = None

    def look() -> Generator[Read | Found[JobRecord], Any, str | None]:
        nonlocal seen
        record: JobRecord = yield Read(lambda: ledger.queries.get(job_id))
        if seen != (record.state, record.detail):
            seen = (record.state, record.detail)
            yield Found(record)
        return None if record.terminal else f"job {job_id} is {record.state}"

    return _job(job_id, look, ledger, timeout, outage)


def job_result(
    ledger: Ledger, job_id: str, timeout: float | None = None, check: bool | None = None
) -> Steps[JobResult]:
    """Find the result of a job, once, when it has ended.

    Args:
        ledger: where the job is.
        job_id: the job's id.
        timeout: seconds to wait; None waits for ever.
        check: whether a failed job raises; None uses the job's description.

    Raises:
        JobFailed: the job failed.
        JobCancelled: it was cancelled, or skipped.
        WaitTimeout: the time has passed.
        UnknownJob: there is no record.
        LedgerUnavailable: Redis has never answered, or the outage is too long.
    """
    outage = Outage()
    queue = ""

    def look() -> Generator[Read | Found[JobResult], Any, str | None]:
        nonlocal queue
        record: JobRecord = yield Read(lambda: ledger.queries.get(job_id))
        outage.answered = True
        queue = record.queue if record.state is JobState.QUEUED else ""
        if not record.terminal:
            return f"job {job_id} is {record.state}"
        result: JobResult = yield Read(lambda: queries.result_of(ledger, record))
        wanted = check if check is not None else record.spec is None or record.spec.check
        yield Found(result.check() if wanted else result)
        return None

    def why() -> str:
        found = queries.why_not_taken(ledger, queue) if queue else ""
        return found and f"; {found}"

    return _job(job_id, look, ledger, timeout, outage, why)


def batch_records(
    ledger: Ledger, batch_ids: Sequence[str], timeout: float | None = None, *, check: bool = True
) -> Steps[BatchRecord]:
    """Find the record of each of some batches, one after the other: as it is, whenever a job has ended, and at its end.

    Args:
        ledger: where the batches are.
        batch_ids: their ids.
        timeout: seconds to wait in all; None waits for ever.
        check: whether a batch that misses its quorum raises.

    Raises:
        BatchFailed: a batch missed its quorum; the text counts the causes.
        WaitTimeout: the time has passed.
        UnknownJob: there is no such batch.
        LedgerUnavailable: Redis has never answered, or the outage is too long.
    """
    deadline, outage = _Deadline(timeout), Outage()

    def looks(batch_id: str) -> _Look[BatchRecord]:
        seen: int | None = None

        def look() -> Generator[Read | Found[BatchRecord], Any, str | None]:
            nonlocal seen
            status: BatchRecord = yield Read(lambda: ledger.batches.get(batch_id))
            outage.answered = True
            if seen != status.ended or status.done:
                seen = status.ended
                yield Found(status)
            if not status.done:
                return status.sentence()
            if check and status.state is not JobState.SUCCEEDED:
                reasons: str = yield Read(lambda: queries.reasons(ledger, batch_id))
                raise BatchFailed(f"{status.sentence()}; {reasons}", status)
            return None

        return look

    for batch_id in batch_ids:
        yield from _watch(f"{ledger.queries.changes_channel}batch:{batch_id}", looks(batch_id), deadline, outage)


def batch_results(
    ledger: Ledger,
    batch_id: str,
    *,
    ordered: bool = False,
    timeout: float | None = None,
    offset: int = 0,
    progress: Callable[[BatchRecord], None] | None = None,
    outage: Outage | None = None,
) -> Steps[JobResult]:
    """Find the results of a batch's jobs, successes and failures, until all have ended.

    Args:
        ledger: where the batch is.
        batch_id: the batch's id.
        ordered: in the order of the inputs, instead of as they arrive.
        timeout: seconds to wait in all; None waits for ever.
        offset: how many to pass over, in the order in which they arrive; not where they are ``ordered``.
        progress: called with the batch's record each time before it is waited for more.
        outage: how long a Redis that is away is tolerated; None begins anew.

    Raises:
        WaitTimeout: the time has passed.
        UnknownJob: there is no such batch, or the record of one of its jobs has expired.
        LedgerUnavailable: Redis has never answered, or the outage is too long.
    """
    bearing = outage or Outage()
    seen = 0 if ordered else offset
    held: dict[int, JobResult] = {}
    turn: Iterator[int] | None = None
    wanted = 0

    def arrived(result: JobResult) -> Generator[Read | Found[JobResult], Any, None]:
        nonlocal turn, wanted
        if not ordered:
            yield Found(result)
            return
        if turn is None:
            order: list[int] | None = yield Read(partial(ledger.queries.batch_order, batch_id))
            turn = iter(order) if order is not None else itertools.count()
            wanted = next(turn, -1)
        held[result.index or 0] = result
        while wanted in held:
            yield Found(held.pop(wanted))
            wanted = next(turn, -1)

    def look() -> Generator[Read | Found[JobResult], Any, str | None]:
        nonlocal seen
        status: BatchRecord = yield Read(lambda: ledger.batches.get(batch_id))
        while ids := (yield Read(partial(ledger.batches.ended_jobs, batch_id, seen))):
            for job_id in ids:
                result: JobResult | None = yield Read(partial(queries.batch_result, ledger, job_id))
                seen += 1
                bearing.over()
                if result is not None:
                    yield from arrived(result)
        if status.done:
            # If Redis has lost records there are gaps: the results after them are returned at the end.
            yield from (Found(held.pop(index)) for index in sorted(held))
            return None
        if progress is not None:
            progress(status)
        return status.sentence()

    yield from _watch(f"{ledger.queries.changes_channel}batch:{batch_id}", look, _Deadline(timeout), bearing)
