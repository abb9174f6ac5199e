"""PURE: following the output of a job: what is read, and what a reader is told. Does no I/O itself.

Like ``wait``, these are generators of steps. Each attempt's output comes from its feed, and from the ledger where there
was no feed, or its end is missing. Every stream is counted by bytes: none comes twice, and one that is missing is told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from jaas_submit.client import queries
from jaas_submit.client.live_output.findings import AttemptBegins, AttemptEnds, Event, Missing, NotLive
from jaas_submit.client.wait import POLL_INTERVAL_S, Found, Listen, Outage, Read, Sleep, Steps, Subscribe
from jaas_submit.errors import LedgerUnavailable, WaitTimeout
from jaas_submit.ledger import Ledger
from jaas_submit.model.logs import Logs, LogStatus, Stream, engine_time
from jaas_submit.model.records import JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.output import FeedEnd, Feeds, FeedView, Gap, Piece, Wanted

__all__ = ["JobOutput"]

RENEW_S: Final = 5.0
"""Seconds after which a watch is renewed."""

END_S: Final = 2.0
"""Seconds that a feed has to end after its attempt has ended in the ledger; then the ledger's output is read."""

NOT_LIVE_S: Final = 3.0
"""Seconds for which a container runs without anybody writing its feed, before the reader is told."""

_TOLD: Final = -1.0

_BEHIND: Final = "they were removed before they were read"

_NOT_KEPT: Final = "they were not kept"


class _Source(NamedTuple):
    ledger: Ledger
    feeds: Feeds


_Step = Generator[Read | Found[Event], Any, None]


class _Attempt:
    """Reads the output of one attempt.

    Args:
        source: where the job and its feeds are.
        job_id: the job's id.
        number: which attempt.
        since: only output from this time on.
        tail: only so many of the lines that are there already.
        announce: whether the reader is told when it begins.
    """

    def __init__(
        self, source: _Source, job_id: str, number: int, since: str, tail: int | None, *, announce: bool
    ) -> None:
        self.number = number
        self.announce = announce
        self.done = False
        self.wanted: Wanted | None = None
        self.cursor = 0
        self._ledger, self._feeds = source
        self._job_id = job_id
        self._since = since
        self._tail = tail
        # Where only some lines are wanted, a stream may begin at any byte.
        self._whole = not since and tail is None
        self._at: dict[Stream, int] = {"stdout": 0, "stderr": 0} if self._whole else {}
        self._untold: dict[Stream, Missing] = {}
        self._renewed = 0.0
        self._running_since: float | None = None
        self._ended_since: float | None = None
        self._live = True

    @property
    def patience(self) -> float:
        """Seconds to listen before it is looked again."""
        return POLL_INTERVAL_S if self._ended_since is None or self.done else 0.2

    def ended(self, record: JobRecord) -> bool:
        """Return whether the ledger has the attempt's end."""
        return record.attempt > self.number or any(attempt.number == self.number for attempt in record.attempts)

    def look(self, record: JobRecord) -> _Step:
        """Read what there is; sets ``done`` when that is all."""
        yield from self._look(record)
        yield from self._tell()

    def _look(self, record: JobRecord) -> _Step:
        ended = record.terminal or self.ended(record)
        if ended and self.wanted is None:
            yield from self._stored(record)
            return
        view = (yield from self._read()) if self._live else None
        if view is not None and view.end is not None and view.end.status != LogStatus.UNAVAILABLE:
            yield from self._feed_ended(view.end)
        elif ended:
            now = time.monotonic()
            self._ended_since = self._ended_since or now
            being_written = view is not None and view.writer and view.end is None
            if not being_written or now - self._ended_since > END_S:
                yield from self._stored(record)
        elif view is not None:
            yield from self._tell_if_not_live(record, view)

    def _read(self) -> Generator[Read | Found[Event], Any, FeedView | None]:
        while True:
            feed = yield from self._watch()
            view: FeedView | None = yield Read(partial(self._feeds.read, feed, self.cursor))
            if view is None:
                self.wanted = None
                return None
            self.cursor = view.cursor
            for stream, begin in view.begins.items():
                self._at.setdefault(stream, begin)
            for piece in view.pieces:
                yield from self._take(piece)
            if not view.more:
                return view

    def _watch(self) -> Generator[Read, Any, str]:
        now = time.monotonic()
        if self.wanted is not None and now - self._renewed > RENEW_S:
            if not (yield Read(partial(self._feeds.renew, self.wanted))):
                self.wanted = None
            self._renewed = now
        if self.wanted is None:
            # Also where the former feed has expired: what was read of it is passed over.
            wanted: Wanted = yield Read(partial(self._feeds.watch, self._job_id, self.number, self._since, self._tail))
            self.wanted, self.cursor, self._renewed = wanted, 0, now
        return self.wanted.feed

    def _take(self, piece: Piece | Gap) -> Iterator[Found[Event]]:
        """Find what is new of a piece, and what is missing before it."""
        length = piece.missing if isinstance(piece, Gap) else len(piece.data)
        end = piece.offset + length
        at = self._at.get(piece.stream, piece.offset)
        if end <= at:
            return
        self._at[piece.stream] = end
        if not self._whole and isinstance(piece, Piece):
            # A new feed has to begin where this one was left.
            self._since, self._tail = piece.time, None
        if piece.offset > at:
            self._miss(Missing(piece.stream, piece.offset - at, _BEHIND, behind=True))
        skip = max(at - piece.offset, 0)
        if isinstance(piece, Gap):
            self._miss(Missing(piece.stream, length - skip, piece.reason))
        else:
            yield from self._tell(piece.stream)
            yield Found(piece._replace(offset=piece.offset + skip, data=piece.data[skip:]) if skip else piece)

    def _miss(self, missing: Missing) -> None:
        """Take note of missing bytes; those that follow each other are told together."""
        before = self._untold.get(missing.stream)
        self._untold[missing.stream] = before.and_then(missing) if before else missing

    def _tell(self, stream: Stream | None = None) -> Iterator[Found[Event]]:
        """Find what is missing before the next piece of a stream; None means of both."""
        for one in [stream] if stream else list(self._untold):
            if missing := self._untold.pop(one, None):
                yield Found(missing)

    def _feed_ended(self, end: FeedEnd) -> Iterator[Found[Event]]:
        for stream, at in self._at.items():
            written: int = getattr(end, stream)
            if written > at:
                self._miss(Missing(stream, written - at, _BEHIND, behind=True))
        self.done = True
        yield from self._tell()
        yield Found(AttemptEnds(self.number, end.status, end.reason))

    def _stored(self, record: JobRecord) -> _Step:
        """Read from the ledger what was not in the feed."""
        logs: Logs | None = yield Read(partial(self._ledger.queries.logs, self._job_id, self.number))
        if logs is None and any(one.number == self.number and one.container_id for one in record.attempts):
            logs = queries.no_logs(record)
        if logs is not None:
            yield from self._take_stored(logs if self._tail is None else logs.last(self._tail), self._since)
            yield from self._tell()
            yield Found(AttemptEnds(self.number, logs.status, logs.reason, logs.notices))
        self.done = True

    def _take_stored(self, logs: Logs, since: str) -> Iterator[Found[Event]]:
        at: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        lost: set[Stream] = set()
        gaps = list(logs.gaps)
        for number in range(len(logs.lines) + 1):
            while gaps and gaps[0].before <= number:
                gap = gaps.pop(0)
                if gap.exact:
                    yield from self._take(Gap(gap.stream, at[gap.stream], gap.missing, _NOT_KEPT))
                else:
                    if self._at.get(gap.stream, 0) > at[gap.stream]:
                        lost.add(gap.stream)  # it is not known what of the rest was in the feed
                    self._miss(Missing(gap.stream, 0, _NOT_KEPT))
                at[gap.stream] += gap.missing
            if number < len(logs.lines):
                line = logs.lines[number]
                if line.stream not in lost and (not since or line.time >= since):
                    yield from self._take(Piece(line.stream, at[line.stream], line.time, line.data))
                at[line.stream] += len(line.data)

    def _tell_if_not_live(self, record: JobRecord, view: FeedView) -> Iterator[Found[Event]]:
        reason = ""
        if view.end is not None:
            self._live = False
            reason = view.end.reason or "its node does not say why"
        elif view.writer or record.state is not JobState.RUNNING or self._running_since == _TOLD:
            return
        else:
            now = time.monotonic()
            self._running_since = self._running_since or now
            if now - self._running_since < NOT_LIVE_S:
                return
            self._running_since = _TOLD
            reason = f"nothing reads it on {record.node or 'its node'} while the job runs"
        yield Found(NotLive(reason))


class JobOutput:
    """The output of a job, attempt after attempt, from now on to the job's end.

    Args:
        ledger: where the job is.
        feeds: its output while it runs.
        job_id: the job's id.
        attempt: only this attempt; None for the present one and those after it.
        since: only output from this time on; None for all of it.
        tail: only so many of the lines that are there already, and all new ones; None for all of them.
    """

    def __init__(
        self,
        ledger: Ledger,
        feeds: Feeds,
        job_id: str,
        attempt: int | None = None,
        since: datetime | None = None,
        tail: int | None = None,
    ) -> None:
        self.job_id = job_id
        self._source = _Source(ledger, feeds)
        self._only = attempt
        self._since = "" if since is None else engine_time(since)
        self._tail = tail
        self._attempt: _Attempt | None = None
        self._record: JobRecord | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels on which something is published when there is more."""
        ledger, feeds = self._source
        return ledger.queries.changes_channel + self.job_id, feeds.output_channel(self.job_id)

    @property
    def patience(self) -> float:
        """Seconds after which to look again even if nothing was published."""
        return self._attempt.patience if self._attempt else POLL_INTERVAL_S

    def steps(self, timeout: float | timedelta | None = None, outage: Outage | None = None) -> Steps[Event]:
        """Find the output; may be called again after a time-out, and goes on where it was.

        Args:
            timeout: seconds to wait in all; None waits for ever.
            outage: how long a Redis that is away is tolerated; None begins anew.

        Raises:
            WaitTimeout: the time has passed.
            UnknownJob: there is no record.
            LedgerUnavailable: Redis has never answered, or the outage is too long.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        end = math.inf if seconds is None else time.monotonic() + seconds
        outage = outage or Outage()
        while True:
            try:
                channel, *others = self.channels
                yield Subscribe(channel, tuple(others))
                notice: str | None = None
                while (standing := (yield from self.look(notice))) is not None:
                    outage.over()
                    now = time.monotonic()
                    if now >= end:
                        raise WaitTimeout(f"{standing} after {seconds:g} s; it goes on")
                    notice = yield from self._notice(min(now + self.patience, end))
            except LedgerUnavailable as error:
                if end <= time.monotonic():
                    raise
                yield Sleep(outage.retry_delay(error))
            else:
                return

    def _notice(self, until: float) -> Generator[Listen, Any, str | None]:
        """Return the first notice that tells something new; None if there is none in time."""
        notice: str | None = None
        while (left := until - time.monotonic()) > 0:
            notice = yield Listen(left)
            if notice is None or not self.knows(notice):
                return notice
        return None

    def knows(self, notice: str) -> bool:
        """Return whether a notice says nothing new: what it tells of has been read.

        Args:
            notice: from one of the ``channels``.
        """
        feed, _, cost = notice.partition(" ")
        now = self._attempt
        if notice.startswith("{") or now is None or now.wanted is None:
            return False
        return feed != now.wanted.feed or (cost.isdigit() and int(cost) <= now.cursor)

    def look(self, notice: str | None = None) -> Generator[Read | Found[Event], Any, str | None]:
        """Find what there is now; return what is waited for, or None when that was all.

        Args:
            notice: what was published; None if it is not known what has changed.
        """
        record = self._record
        if record is None or notice is None or notice.startswith("{"):
            seen = record and (record.state, record.detail)
            record = self._record = yield Read(partial(self._source.ledger.queries.get, self.job_id))
            if seen != (record.state, record.detail):
                yield Found(record)
        self._attempt = self._attempt or self._first(record)
        while True:
            now = self._attempt
            if now.announce and record.attempt >= now.number:
                now.announce = False
                yield Found(AttemptBegins(now.number))
            if not now.done:
                yield from now.look(record)
            only = self._only is not None
            if not now.done or not (only or record.terminal or now.ended(record)):
                return f"job {self.job_id} is {record.state}"
            if only or (record.terminal and record.attempt <= now.number):
                return None
            self._attempt = _Attempt(self._source, self.job_id, now.number + 1, "", None, announce=True)

    def _first(self, record: JobRecord) -> _Attempt:
        number = self._only or max(record.attempt, 1)
        if record.terminal and not self._only:
            # An end between two attempts (cancelled, deadline) has no number and no output.
            number = next((ended.number for ended in reversed(record.attempts) if ended.number), number)
        return _Attempt(self._source, self.job_id, number, self._since, self._tail, announce=False)
