"""Submitting the jobs of a batch, in chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from jaas_submit.client.enqueue import CHUNK, enqueue_many
from jaas_submit.client.maps.by_key import ByKey
from jaas_submit.client.maps.new_batch import NewBatch, Submitted, Template
from jaas_submit.client.session import Session
from jaas_submit.errors import BatchClosed

__all__ = ["submit_map"]


def submit_map(session: Session, batch_id: str, new: NewBatch, template: Template, inputs: Iterable[Any]) -> Submitted:
    """Submit one job for each input; return what was submitted. Repeating it with a key adds only what is missing.

    Args:
        session: the connections.
        batch_id: id of the batch, whose record is there.
        new: the batch.
        template: makes the jobs.
        inputs: the inputs, read one by one.

    Raises:
        SpecError: a description is not valid with its input, or the batch takes no more jobs.
        UnknownJob: a job or batch that they come after is unknown.
        LedgerUnavailable: Redis does not answer.
    """
    count = 0
    by_key = ByKey(session, batch_id, new, template) if new.key else None
    try:
        for chunk in _chunks(inputs):
            after = template.dependencies(session, count, len(chunk))
            if by_key is not None:
                by_key.submit(chunk, after)
            else:
                pairs = zip(enumerate(chunk, count), after, strict=True)
                enqueue_many(session, (template.job(session, batch_id, item, n, after=a) for (n, item), a in pairs))
            count += len(chunk)
    except BatchClosed:
        if not session.ledger.batches.get(batch_id).stopped:
            raise
    else:
        if by_key is None:
            session.ledger.batches.close(batch_id, count)
        else:
            by_key.close()
    return Submitted(count) if by_key is None else by_key.submitted()


def _chunks(inputs: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(inputs)
    while chunk := list(itertools.islice(rest, CHUNK)):
        yield chunk
