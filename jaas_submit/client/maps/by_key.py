"""Submitting a batch with a key: what is there already is found by the inputs' own keys."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from jaas_submit.batch_model.input_keys import InputKey, InputKeys
from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.client.enqueue import CHUNK, enqueue_many
from jaas_submit.client.maps.new_batch import NewBatch, Submitted, Template
from jaas_submit.client.queries import UNSUCCESSFUL
from jaas_submit.client.session import Session
from jaas_submit.ledger.batches import DROPPED
from jaas_submit.model.ids import batch_job_id, retry_id_of
from jaas_submit.model.records import JobRecord

__all__ = ["ByKey"]

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # the batch has the same text, for programs without logging

_SETTINGS: Final = ("name", "max_parallel", "min_success", "max_failures", "speculate")
_OF_THE_PLACE: Final = frozenset({"input", "version"})
"""Fields of a description that are not compared: an input may be a reference, and is compared by its key."""


class ByKey:
    """One call's submission to a batch that an earlier call may have begun.

    Each input has a place in the batch, which it keeps. An input that is new gets the next free one.

    Args:
        session: the connections.
        batch_id: id of the batch, whose record is there.
        new: the batch as this call describes it.
        template: makes the jobs.

    Raises:
        SpecError: the batch was cancelled or stopped, and ``again`` is not given.
    """

    def __init__(self, session: Session, batch_id: str, new: NewBatch, template: Template) -> None:
        self._session = session
        self._ledger = session.ledger
        self._id = batch_id
        self._new = new
        self._template = template
        self._was = self._ledger.batches.get(batch_id)
        self._known = self._ledger.batches.inputs(batch_id)
        self._keys = InputKeys(new.key_of)
        taken = {place for place, _ in self._known.values()}
        self._next = max(self._was.span, *(place + 1 for place in taken), 0)
        # Where Redis has lost the keys, restored jobs are taken to be for the inputs at their positions.
        self._unclaimed = set(range(self._was.span)) - taken if len(taken) < self._was.span else set()
        self._is_open = self._was.total is None and not self._was.cancelled
        self._places: list[int] = []
        self._existing = 0
        self._dropped = 0
        self._other_content = 0
        self._other_fields: list[str] | None = None
        if self._was.cancelled or (new.again and (self._was.done or self._is_open)):
            self._is_open = False
            self._reopen()

    def submit(self, items: Sequence[Any], after: Sequence[tuple[tuple[str, str], ...]]) -> None:
        """Submit the next inputs, some hundred: those without a job get one.

        Args:
            items: the inputs.
            after: what the job for each comes after.
        """
        keys = [self._keys.next(item, len(self._places) + number) for number, item in enumerate(items)]
        known = [key.key in self._known for key in keys]  # a place of an input that is new may be another call's by now
        places = [self._place(key, len(self._places) + number) for number, key in enumerate(keys)]
        self._places += places
        ids = self._ledger.queries.batch_job_ids(self._id, places)
        there = self._ledger.queries.existing([one for one, is_known in zip(ids, known, strict=True) if is_known])
        self._existing += len(there)
        old: dict[str, JobRecord] = {}
        if self._new.again or self._was.left:
            old = {one.id: one for one in self._ledger.queries.find(sorted(there))}
            self._take_back([one.id for one in old.values() if one.left == DROPPED])
        jobs: list[NewJob] = []
        for item, key, place, job_id, on in zip(items, keys, places, ids, after, strict=True):
            if job_id not in there:
                fields = {"input_key": key.key, "input_digest": key.digest, "after": on}
                jobs.append(self._template.job(self._session, self._id, item, place, **fields))
            elif self._new.again and job_id in old and old[job_id].state in UNSUCCESSFUL:
                fields = {"job_id": retry_id_of(job_id), "replay_of": job_id, "replaces": job_id, "after": on}
                jobs.append(self._template.job(self._session, self._id, item, place, **fields))
            elif self._other_fields is None and self._known[key.key][1] in {"", key.digest}:
                self._compare(item, place)
        if jobs:
            self._reopen()
        enqueue_many(self._session, jobs)

    def _take_back(self, job_ids: list[str]) -> None:
        """Let jobs count again whose inputs an earlier call did not have."""
        if job_ids:
            self._reopen()
            self._ledger.batches.arrange(self._id, [], job_ids, None)

    def _place(self, key: InputKey, position: int) -> int:
        if key.key in self._known:
            place, digest = self._known[key.key]
            self._other_content += bool(digest) and digest != key.digest
            return place
        if position in self._unclaimed:
            self._unclaimed.discard(position)
            place = position
        else:
            place = self._next
            self._next += 1
        self._known[key.key] = (place, key.digest)
        return place

    def _reopen(self) -> None:
        if not self._is_open:
            self._ledger.queues.check_takes_jobs(self._session.queue)
            self._ledger.batches.open(self._id, again=self._new.again)
            self._is_open = True

    def _compare(self, item: Any, place: int) -> None:
        """Compare the description of a job that is there with that of this call."""
        for record in self._ledger.queries.find([batch_job_id(self._id, place)]):
            if (present := record.submitted or record.spec) is not None:
                # Not as a file: that could overwrite a stored input.
                job = replace(self._template, as_file=False).job(self._session, self._id, item, place)
                one, other = present.to_wire(), job.spec.to_wire() if job.spec else {}
                names = sorted((one.keys() | other.keys()) - _OF_THE_PLACE)
                self._other_fields = [name for name in names if one.get(name) != other.get(name)]

    def close(self) -> None:
        """Record that all inputs of this call have been submitted, and in which order they are."""
        mine = set(self._places)
        others = [place for place, _ in self._known.values() if place not in mine]
        still_open, out = 0, []
        for record in self._records(others):
            if not record.terminal:
                still_open += 1
            elif not record.left:
                out.append(record.id)
        order = [] if self._places == list(range(len(self._places))) else self._places
        moved = order != (self._ledger.queries.batch_order(self._id) or [])
        if out:
            self._reopen()
        if out or moved:
            self._ledger.batches.arrange(self._id, out, [], order if moved else None)
        self._dropped = len(out)
        if self._is_open:
            self._ledger.batches.close(self._id, len(self._places) + still_open)

    def _records(self, places: Collection[int]) -> Iterator[JobRecord]:
        rest = sorted(places)
        for first in range(0, len(rest), CHUNK):
            page = rest[first : first + CHUNK]
            yield from self._ledger.queries.find(self._ledger.queries.batch_job_ids(self._id, page))

    def submitted(self) -> Submitted:
        """Return what was submitted; what differs from the batch that was there is logged, too."""
        told = self._difference()
        if told:
            logger.warning("%s", told)
        return Submitted(len(self._places), self._existing, told)

    def _difference(self) -> str:
        told: list[str] = []
        asked = self._new.settings()
        differ = [name for name in _SETTINGS if (asked[name] or None) != (getattr(self._was, name) or None)]
        if differ:
            told.append(f"the batch keeps its {_listed(differ)}, which this call gives otherwise")
        if self._other_fields:
            told.append(
                f"jobs that are there keep their {_listed(self._other_fields)}, which this call describes otherwise"
            )
        if self._other_content:
            told.append(f"{self._other_content:,} inputs have a known key and other content, and keep their jobs")
        if self._dropped:
            told.append(f"{self._dropped:,} ended jobs count no more, because this call does not have their inputs")
        return f"batch {self._id}: {'; '.join(told)}" if told else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join(", ".join(names).rsplit(", ", 1))
