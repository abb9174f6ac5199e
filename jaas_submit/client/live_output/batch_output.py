"""PURE: following the output of all jobs of a batch, over one subscription."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from jaas_submit.client.live_output.findings import Output
from jaas_submit.client.live_output.job_output import JobOutput
from jaas_submit.client.wait import Found, Listen, Outage, Read, Sleep, Steps, Subscribe
from jaas_submit.errors import LedgerUnavailable, UnknownJob
from jaas_submit.ledger import Ledger, Outline
from jaas_submit.model.records import BatchRecord, JobRecord
from jaas_submit.model.states import JobState
from jaas_submit.output import Feeds

__all__ = ["BatchOutput", "JobFound"]

_MOST_FOLLOWED: Final = 200
"""Jobs that are followed at the same time. The output of those beyond is read when they have ended."""

_LOOK_S: Final = 0.4
"""Seconds after which it is looked which jobs have started, in a small batch."""

_LOAD: Final = 20
"""So many times as long as that look took is the pause until the next."""

_PAGE: Final = 500

_NOT_STARTED: Final = frozenset({JobState.WAITING, JobState.QUEUED})


class JobFound(NamedTuple):
    """What was found of the output of one of the jobs."""

    number: int
    """Which of the batch's inputs the job is for, counted from 0."""
    job_id: str
    found: Output


class BatchOutput:
    """The output of a batch's jobs, from now on to the batch's end.

    Args:
        ledger: where the batch is.
        feeds: the output of running jobs.
        batch_id: the batch's id.
        since: only output from this time on; None for all of it.
        tail: only so many of the lines that are there already of each job; None for all of them.
    """

    def __init__(
        self, ledger: Ledger, feeds: Feeds, batch_id: str, since: datetime | None = None, tail: int | None = None
    ) -> None:
        self._ledger = ledger
        self._feeds = feeds
        self._batch_id = batch_id
        self._since = since
        self._tail = tail
        self._span = 0
        self._waiting: dict[str, int] = {}
        """Jobs that are not followed yet, with the numbers of their inputs."""
        self._followed: dict[str, tuple[int, JobOutput]] = {}
        self._due: dict[str, float] = {}
        self._next_look = 0.0
        self._done = False

    def steps(self, outage: Outage | None = None) -> Steps[JobFound]:
        """Find the output of all jobs.

        Args:
            outage: how long a Redis that is away is tolerated; None begins anew.

        Raises:
            UnknownJob: there is no such batch.
            LedgerUnavailable: Redis has never answered, or the outage is too long.
        """
        outage = outage or Outage()
        while True:
            try:
                while not (yield from self._listen(outage)):
                    pass
            except LedgerUnavailable as error:
                yield Sleep(outage.retry_delay(error))
            else:
                return

    def _listen(self, outage: Outage) -> Generator[Any, Any, bool]:
        """Follow the present jobs until others are to be followed; return whether all is over."""
        yield from self._look_around()
        channels = [channel for _, output in self._followed.values() for channel in output.channels]
        yield Subscribe(f"{self._ledger.queries.changes_channel}batch:{self._batch_id}", tuple(channels))
        self._due = dict.fromkeys(self._followed, 0.0)
        while True:
            for job_id in [job_id for job_id, due in self._due.items() if due <= time.monotonic()]:
                yield from self._look(job_id, None)
            outage.over()
            if self._done and not self._waiting and not self._followed:
                return True
            if time.monotonic() >= self._next_look and (yield from self._look_around()):
                return False
            pause = min([self._next_look, *self._due.values()]) - time.monotonic()
            notice: str | None = yield Listen(max(pause, 0.001))
            if notice is not None:
                yield from self._heard(notice)

    def _heard(self, notice: str) -> Generator[Any, Any, None]:
        if notice.startswith("{"):
            job_id = str(json.loads(notice).get("id"))
        else:
            job_id = notice.partition(" ")[0].rsplit(".", 2)[0]
        if job_id in self._followed and not self._followed[job_id][1].knows(notice):
            yield from self._look(job_id, notice)
        elif job_id not in self._followed and not notice.startswith("{"):
            self._next_look = 0.0  # a job has ended, or the batch

    def _look(self, job_id: str, notice: str | None) -> Generator[Any, Any, None]:
        number, output = self._followed[job_id]
        standing = None
        with contextlib.suppress(UnknownJob):  # its record has expired
            standing = yield from self._labelled(number, output, notice)
        if standing is None:
            del self._followed[job_id], self._due[job_id]
        else:
            self._due[job_id] = time.monotonic() + output.patience

    def _labelled(self, number: int, output: JobOutput, notice: str | None) -> Generator[Any, Any, str | None]:
        steps = output.look(notice)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                standing: str | None = end.value
                return standing
            if not isinstance(step, Found):
                answer = yield step
            elif not isinstance(step.value, JobRecord):
                answer = yield Found(JobFound(number, output.job_id, step.value))

    def _look_around(self) -> Generator[Any, Any, bool]:
        """Look which jobs have started or ended; return whether there are more to follow."""
        begin = time.monotonic()
        status: BatchRecord = yield Read(partial(self._ledger.batches.get, self._batch_id))
        for first in range(self._span, status.span, _PAGE):
            numbers = range(first, min(first + _PAGE, status.span))
            ids: list[str] = yield Read(partial(self._ledger.queries.batch_job_ids, self._batch_id, numbers))
            self._waiting |= dict(zip(ids, numbers, strict=True))
        self._span, self._done = max(self._span, status.span), status.done
        room = _MOST_FOLLOWED - len(self._followed)
        waiting = list(self._waiting)
        followed = len(self._followed)
        for start in range(0, len(waiting), _PAGE):
            page = waiting[start : start + _PAGE]
            outlines: list[Outline] = yield Read(partial(self._ledger.queries.outlines, page))
            for outline in outlines:
                if outline.state not in _NOT_STARTED and room > 0:
                    room -= 1
                    self._follow(outline.id)
            if status.done:  # whose record has expired
                for job_id in {*page} - {outline.id for outline in outlines}:
                    del self._waiting[job_id]
            if room <= 0:
                break
        self._next_look = time.monotonic() + max(_LOOK_S, _LOAD * (time.monotonic() - begin))
        return len(self._followed) > followed

    def _follow(self, job_id: str) -> None:
        output = JobOutput(self._ledger, self._feeds, job_id, None, self._since, self._tail)
        self._followed[job_id] = self._waiting.pop(job_id), output
