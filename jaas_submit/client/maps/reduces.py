"""Submitting the reduces over a batch's outputs, and again when the batch has other outputs."""

from __future__ import annotations

import math
import uuid

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.client.enqueue import enqueue_many
from jaas_submit.client.session import Session
from jaas_submit.errors import SpecError
from jaas_submit.model.ids import batch_job_id
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import BatchRecord, JobRecord

__all__ = ["levels_of", "reduce_sizes", "reduces_now", "renew_reduces", "submit_reduces"]


def reduce_sizes(count: int, fan_in: int) -> list[int]:
    """Return how many jobs each level of a tree of reduces has, the last one being 1.

    Args:
        count: how many outputs there are.
        fan_in: how many outputs one reduce job takes at most.
    """
    sizes: list[int] = []
    while not sizes or count > 1:
        count = max(math.ceil(count / fan_in), 1)
        sizes.append(count)
    return sizes


def submit_reduces(session: Session, spec: JobSpec, maps: BatchRecord, total: int, fan_in: int) -> list[str]:
    """Submit the reduces over a batch's outputs; return the ids of their batches.

    Repeating it adds only what is missing. Those over the outputs that the batch had before it was opened again are
    cancelled. Those that are complete stay as they are, whatever ``fan_in``.

    Args:
        session: the connections.
        spec: the description of each reduce.
        maps: the batch whose outputs are reduced; nobody submits jobs to it.
        total: how many outputs there are.
        fan_in: how many outputs one reduce job takes at most.

    Raises:
        QueueClosed: the queue is draining.
        LedgerUnavailable: Redis does not answer.
    """
    if _reduces_are_current(maps):
        return levels_of(session, maps)
    session.ledger.queues.check_takes_jobs(session.queue)
    if maps.reduced_by:
        for batch_id in reversed(levels_of(session, maps)):
            session.ledger.batches.cancel(batch_id, f"batch {maps.id} has other outputs now, which other jobs reduce")
            session.ledger.batches.cancel_jobs(batch_id)
    sizes = reduce_sizes(total, fan_in)
    ids = [_reduce_id(maps, number, fan_in) for number in range(len(sizes))]
    sources = [maps.id, *ids[:-1]]
    outputs = total
    for number, (source, batch_id, size) in enumerate(zip(sources, ids, sizes, strict=True)):
        session.ledger.batches.create(batch_id, name=f"reduce {number + 1}", reduces=source)
        jobs = []
        for index in range(size):
            first = index * fan_in
            gather = {"batch": source, "first": first, "count": max(min(fan_in, outputs - first), 0)}
            jobs.append(
                NewJob(
                    batch_job_id(batch_id, index),
                    JobSpec.parse({**spec.to_wire(), "gather": gather}),
                    session.queue,
                    batch=batch_id,
                    index=index,
                    after=((f"batch:{source}", "success"),),
                )
            )
        enqueue_many(session, jobs)
        session.ledger.batches.close(batch_id, size)
        outputs = size
    # The maps' own link is the last one: whoever finds the reduces finds all levels, even if this process dies here.
    for source, batch_id in reversed(list(zip(sources, ids, strict=True))):
        session.ledger.batches.set_reduces(source, batch_id, fan_in)
    return ids


def _reduce_id(maps: BatchRecord, number: int, fan_in: int) -> str:
    return str(uuid.uuid5(uuid.UUID(maps.id), f"reduce-{number}-{maps.generation}-{fan_in}"))


def _reduces_are_current(maps: BatchRecord) -> bool:
    """Return whether all reduces over the outputs that the batch has now have been submitted."""
    return bool(maps.reduced_by) and maps.reduced_by == _reduce_id(maps, 0, maps.fan_in)


def levels_of(session: Session, maps: BatchRecord) -> list[str]:
    """Return the ids of the batches that reduce a batch's outputs, the last one at the end.

    Args:
        session: the connections.
        maps: the batch's record.
    """
    levels: list[str] = []
    following = maps.reduced_by
    while following and following not in levels:
        levels.append(following)
        found = session.ledger.batches.find([following])
        following = found[0].reduced_by if found else ""
    return levels


def reduces_now(session: Session, maps_id: str) -> list[str]:
    """Return the ids of the batches that reduce a batch's outputs; see ``MapReduce.refresh``."""
    maps = session.ledger.batches.get(maps_id)
    if maps.done and maps.reduced_by and not _reduces_are_current(maps):
        renew_reduces(session, maps_id)
        maps = session.ledger.batches.get(maps_id)
    return levels_of(session, maps)


def renew_reduces(session: Session, maps_id: str) -> None:
    """Submit the reduces over a batch's outputs again if it has been opened again since.

    A batch that still takes jobs gets them from the call that submits these: it knows how many outputs there will be.

    Args:
        session: the connections.
        maps_id: id of the batch.

    Raises:
        UnknownJob: the batch's record has expired.
        SpecError: those of its reduces have; or the client signs, and its key has not signed their description.
        LedgerUnavailable: Redis does not answer; the same call goes on.
    """
    maps = session.ledger.batches.get(maps_id)
    if not maps.reduced_by or maps.total is None or _reduces_are_current(maps):
        return
    found = session.ledger.queries.find([batch_job_id(maps.reduced_by, 0)])
    spec = _reduce_again(session, maps_id, found[0]) if found else None
    if spec is None:
        raise SpecError(f"the reduces of batch {maps_id} are not there any more; submit them again with map_reduce")
    order = session.ledger.queries.batch_order(maps_id)
    total = maps.span if order is None else len(order)
    submit_reduces(session, spec.changed({"gather": None}), maps, total, maps.fan_in)


def _reduce_again(session: Session, maps_id: str, record: JobRecord) -> JobSpec | None:
    start = f"the reduces of batch {maps_id} are not signed again; submit them with map_reduce"
    try:
        spec = session.spec_again(record)
    except SpecError as error:
        raise SpecError(f"{start}: {error}", field=error.field) from None
    # What names the reduces is not signed: it could name any job that this key has signed.
    if session.signer is not None and spec is not None and (spec.gather is None or spec.gather.batch != maps_id):
        raise SpecError(f"{start}: job {record.id} reduces no outputs of it", field="signature")
    return spec
