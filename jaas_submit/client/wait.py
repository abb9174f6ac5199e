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
from datetime import timedelta
from functools import partial
from typing import Any, Final, Generic, TypeVar

from jaas_submit.client import queries
from jaas_submit.errors import BatchFailed, LedgerUnavailable, TemporaryError, UnknownJob, WaitTimeout
from jaas_submit.ledger import Ledger, Outline
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
    "ended_jobs",
    "job_records",
    "job_result",
]

REDIS_OUTAGE_TIMEOUT_S: Final = 60.0
"""Seconds for which whoever waits tolerates a Redis that does not answer, once it has answered."""

POLL_INTERVAL_S: Final = 2.0
"""Seconds after which the ledger is read even without a notice: pub/sub may lose one."""

RETRY_PAUSE_S: Final = 1.0
"""Seconds between two attempts to reach a Redis that is away."""

_FIRST_LOOKS_S: Final = 0.05
"""Pause between two looks at several jobs while they end."""

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

    def retry_delay(self, error: TemporaryError) -> float:
        """Return the seconds to sleep before Redis is tried again.

        Args:
            error: the last one.

        Raises:
            TemporaryError: the same error: Redis has never answered, or the outage is too long.
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
    def __init__(self, timeout: float | timedelta | None) -> None:
        timeout = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
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


def job_records(
    ledger: Ledger, job_id: str, timeout: float | timedelta | None = None, outage: Outage | None = None
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

    yield from _watch(ledger.queries.changes_channel + job_id, look, _Deadline(timeout), outage or Outage())


def job_result(
    ledger: Ledger, job_id: str, timeout: float | timedelta | None = None, check: bool | None = None
) -> Steps[JobResult]:
    """Find the result of a job, once, when it has ended.

    Args:
        ledger: where the job is.
        job_id: the job's id.
        timeout: seconds to wait; None waits for ever.
        check: whether a failed job raises; None uses the job's description.

    Raises JobFailed, or JobCancelled (also if it was skipped), and the errors of ``job_records``.
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
        from jaas_submit.explain.context import why_queue_waits

        found = why_queue_waits(ledger, queue) if queue else ""
        return found and f"; {found}"

    yield from _watch(ledger.queries.changes_channel + job_id, look, _Deadline(timeout), outage, why)


def ended_jobs(ledger: Ledger, job_ids: Sequence[str], timeout: float | timedelta | None = None) -> Steps[str]:
    """Find the ids of jobs as they end.

    Args:
        ledger: where the jobs are.
        job_ids: their ids.
        timeout: seconds to wait in all; None waits for ever.

    Raises the errors of ``job_records``.
    """
    deadline, outage = _Deadline(timeout), Outage()
    left = list(dict.fromkeys(job_ids))
    count, pause = len(left), _FIRST_LOOKS_S
    while left:
        try:
            seen: list[Outline] = yield Read(partial(queries.outlines, ledger, left))
        except LedgerUnavailable as error:
            if deadline.left <= 0:
                raise
            yield Sleep(outage.retry_delay(error))
            continue
        outage.over()
        ended = {one.id: one.terminal for one in seen}
        for job_id in left:
            if job_id not in ended:
                raise UnknownJob(f"no job {job_id} is known; its record may have expired")
            if ended[job_id]:
                yield Found(job_id)
        before, left = len(left), [job_id for job_id in left if not ended[job_id]]
        pause = _FIRST_LOOKS_S if len(left) < before else min(pause * 1.5, POLL_INTERVAL_S)
        if left:
            yield Sleep(min(pause, deadline.pause(f"{len(left):,} of {count:,} jobs have not ended")))


def batch_records(
    ledger: Ledger,
    batch_ids: Sequence[str],
    timeout: float | timedelta | None = None,
    *,
    check: bool = True,
    then: Callable[[], Sequence[str]] = tuple,
) -> Steps[BatchRecord]:
    """Find the record of each of some batches, one after the other: as it is, whenever a job has ended, and at its end.

    Args:
        ledger: where the batches are.
        batch_ids: their ids.
        timeout: seconds to wait in all; None waits for ever.
        check: whether a batch that misses its quorum raises.
        then: returns the ids of further batches, when these have ended.

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
    further: Sequence[str] = yield Read(then)
    for batch_id in further:
        yield from _watch(f"{ledger.queries.changes_channel}batch:{batch_id}", looks(batch_id), deadline, outage)


class _InOrder:
    """Brings a batch's results into the order of its inputs.

    Args:
        read_order: reads the indexes in that order; it returns None if they simply count up.
    """

    def __init__(self, read_order: Callable[[], list[int] | None]) -> None:
        self._read_order = read_order
        self._held: dict[int, JobResult] = {}
        self._turn: Iterator[int] | None = None
        self._wanted = 0

    def add(self, result: JobResult) -> Generator[Read | Found[JobResult], Any, None]:
        """Take a result; find it, and those that waited for it, once all before it have been found."""
        if self._turn is None:
            order: list[int] | None = yield Read(self._read_order)
            self._turn = iter(order) if order is not None else itertools.count()
            self._wanted = next(self._turn, -1)
        self._held[result.index or 0] = result
        while self._wanted in self._held:
            yield Found(self._held.pop(self._wanted))
            self._wanted = next(self._turn, -1)

    def rest(self) -> Iterator[Found[JobResult]]:
        """Find what is left at the end: if Redis has lost records there are gaps, and these results come after them."""
        return (Found(self._held.pop(index)) for index in sorted(self._held))


def batch_results(
    ledger: Ledger,
    batch_id: str,
    *,
    ordered: bool = False,
    timeout: float | timedelta | None = None,
    offset: int = 0,
    progress: Callable[[BatchRecord], None] | None = None,
    outage: Outage | None = None,
) -> Steps[JobResult]:
    """Find the results of a batch's jobs, successes and failures, until all have ended.

    Args:
        ledger, batch_id: the batch, and where it is.
        ordered: in the order of the inputs, instead of as they arrive.
        timeout: seconds to wait in all; None waits for ever.
        offset: how many to pass over, in the order in which they arrive; not where they are ``ordered``.
        progress: called with the batch's record each time before it is waited for more.
        outage: how long a Redis that is away is tolerated; None begins anew.

    Raises the errors of ``batch_records``, but for BatchFailed; UnknownJob also if the record of a job has expired.
    """
    bearing = outage or Outage()
    seen = 0 if ordered else offset
    in_order = _InOrder(partial(ledger.queries.batch_order, batch_id)) if ordered else None

    def look() -> Generator[Read | Found[JobResult], Any, str | None]:
        nonlocal seen
        status: BatchRecord = yield Read(lambda: ledger.batches.get(batch_id))
        while ids := (yield Read(partial(ledger.batches.ended_jobs, batch_id, seen))):
            for job_id in ids:
                result: JobResult | None = yield Read(partial(queries.batch_result, ledger, job_id))
                seen += 1
                bearing.over()
                if result is not None and in_order is not None:
                    yield from in_order.add(result)
                elif result is not None:
                    yield Found(result)
        if status.done:
            yield from in_order.rest() if in_order is not None else ()
            return None
        if progress is not None:
            progress(status)
        return status.sentence()

    yield from _watch(f"{ledger.queries.changes_channel}batch:{batch_id}", look, _Deadline(timeout), bearing)
