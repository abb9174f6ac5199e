"""``Client``: the operations of a producer. ``AsyncClient`` has the same methods for asyncio."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jaas_submit.batch_model.failure_limit import MaxFailures
from jaas_submit.batch_model.input_keys import KeyOf
from jaas_submit.batch_model.new_job import KEY_TTL, NewJob, start_time
from jaas_submit.client import queries
from jaas_submit.client.batch import Batch, BatchReference
from jaas_submit.client.dependencies import Dependency, On, dependencies
from jaas_submit.client.enqueue import enqueue, enqueue_many
from jaas_submit.client.files.send import send_files
from jaas_submit.client.job_handle import JobHandle, JobsById
from jaas_submit.client.map_reduce import MapReduce, map_reduce_of
from jaas_submit.client.maps.new_batch import NewBatch, Template
from jaas_submit.client.maps.per_node import node_inputs
from jaas_submit.client.maps.reduces import submit_reduces
from jaas_submit.client.maps.submit import submit_map
from jaas_submit.client.replay import replay_in_place, replay_job
from jaas_submit.client.session import Session
from jaas_submit.connection import connect
from jaas_submit.connection.names import chosen_prefix, chosen_queue
from jaas_submit.connection.url import default_url, masked
from jaas_submit.errors import SpecError
from jaas_submit.ledger import Ledger
from jaas_submit.model.fields import parse_duration
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.speculation import Speculation
from jaas_submit.model.validation import plain_input, text_or_none
from jaas_submit.signing import Signer
from jaas_submit.storage.store import Store

if TYPE_CHECKING:
    import celery

    from jaas_submit.client.queues.queues import Queues

__all__ = ["Client"]


class Client(JobsById, queries.Reader):
    """Submits jobs and follows them.

    Args:
        url: Redis URL, ``redis://`` or ``sentinel://`` (``jaas_submit.connection.url``); None uses JAAS_REDIS_URL_FILE,
            JAAS_REDIS_URL, CELERY_BROKER_URL or Redis on this host.
        queue: Celery queue of the workers; None takes JAAS_QUEUE, or ``jaas``.
        prefix: first part of the ledger's Redis keys; the workers must use the same. None takes JAAS_PREFIX, or
            ``jaas``.
        app: your own Celery app, to use its broker and result backend for the messages.
        store: URL of the store of large values; the workers must have the same. None takes JAAS_STORE_URL.
        signer: signs the descriptions; None signs as JAAS_SIGNING_KEY (or JAAS_SIGNING_KEY_FILE) and JAAS_SIGNING_KID
            say, or not at all without them.

    Raises:
        SpecError: a URL, queue, prefix or signing key is not valid, or the packages for the store's URL or for signing
            are not installed.

    Every call may raise LedgerUnavailable: Redis does not answer.

    Nothing is connected until the first call. Safe to share between threads; make one for each process.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        queue: str | None = None,
        prefix: str | None = None,
        app: celery.Celery | None = None,
        store: str | None = None,
        signer: Signer | None = None,
    ) -> None:
        self.url = url or default_url()
        where = os.environ.get("JAAS_STORE_URL") if store is None else store
        self.queue = queue = chosen_queue(queue)
        prefix = chosen_prefix(prefix)
        self.ledger = Ledger(connect(self.url), prefix)
        self.store = Store(where, prefix, self.ledger.maintenance.secret) if where else None
        if app is not None:
            self.app = app
        signer = signer or Signer.from_environment(prefix)
        self.session = Session(self.ledger, queue, self.store, lambda: self.app, publisher=app, signer=signer)
        """The connections that handles and batches use."""

    @cached_property
    def app(self) -> celery.Celery:
        """The Celery app whose result backend has the jobs' results; made, and Celery imported, when it is needed."""
        from jaas_submit.messaging.app import celery_app

        return celery_app(self.url)

    @property
    def queues(self) -> Queues:
        """The queues of this installation: what is said of them, and who said it."""
        from jaas_submit.client.queues.queues import Queues

        return Queues(self.ledger)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({masked(self.url)!r}, queue={self.queue!r}, prefix={self.ledger.prefix!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client may not be used again."""
        self.ledger.client.close()
        if "app" in vars(self):
            self.app.close()

    def submit(
        self,
        spec: JobSpec | Mapping[str, Any],
        *,
        key: str | None = None,
        key_ttl: float | timedelta = KEY_TTL,
        after: Sequence[Dependency] = (),
        on: On = "success",
        input: Any = None,  # the field's name in the description
        files: Mapping[str, str | os.PathLike[str]] | None = None,
        not_before: datetime | float | str | None = None,
    ) -> JobHandle:
        """Enqueue a job: write its record and its message.

        When this returns, the job is in the ledger and will run, even if the message gets lost.

        Args:
            spec: the description, or a mapping of its fields.
            key: idempotency key, such as ``payroll-2026-11``: if a job was submitted with this key, its handle is
                returned and nothing is enqueued, whatever the description.
            key_ttl: seconds for which the key is kept (7 days by default), even if the job's record expires earlier.
            after: jobs and batches that this one comes after (handles, batches or ids of jobs).
            on: how they must have ended for this job to run: ``success``, ``failure`` or ``finish`` (either way).
                Otherwise it is SKIPPED, with the reason. A batch succeeds by its quorum.
            input: the job's input, in place of the description's; a large one goes into the store, if there is one.
                Dates are written in ISO 8601, decimals as texts, data classes and pydantic models as objects.
            files: files of this host for the container, beside the description's: names, each with a path. A name is
                below /run/jaas/files, an absolute path is itself.
            not_before: a time with its time zone, or seconds from now, before which the job is not started: it is
                WAITING until then. A time that has passed is no reason to wait. Also as a text: ``10m`` or
                ``2030-01-31T12:00:00Z``.

        Raises:
            SpecError: an argument is not valid, a file cannot be sent, or the queue is draining (QueueClosed).
            UnknownJob: ``after`` names a job or batch that is not known.
            StoreUnavailable: a large input or file could not be stored.
            LedgerUnavailable: Redis did not confirm the record; probably nothing was enqueued. Or, if the Redis URL has
                ``replicas=N``, the replicas did not confirm it in time: then it is enqueued, unless this master is
                lost.
        """
        key = text_or_none("key", key, "leave it out for a job that may be submitted twice")
        spec = JobSpec.parse(spec)
        if files:
            spec = spec.changed({"files": files})
        job_id = str(uuid.uuid4())
        if input is not None:
            spec = JobSpec.parse({**spec.to_wire(), "input": self.session.keep(job_id, plain_input(input))})
        at, delay = start_time(not_before, spec)
        new = NewJob(
            job_id,
            spec,
            self.queue,
            key=key or "",
            key_ttl=parse_duration(key_ttl),
            after=dependencies(after, on),
            not_before=at,
            delay=delay,
        )
        made = enqueue(self.session, new)
        return JobHandle(self.session, made.job_id, existing=made.job_id != job_id)

    def fetch(self, value: Any) -> Any:
        """Return an output; a reference to the store (``{"$ref": ...}``) is read from there.

        Args:
            value: what ``result.output`` holds. A reference to another store, or without a store, or one that jaas has
                not made, is returned as it is.

        Raises:
            LedgerUnavailable: Redis does not answer.
            JaasError: it no longer exists: it is deleted with the job's record.
            StoreUnavailable: the store does not answer.
        """
        return self.session.fetch(value)

    def submit_records(self, jobs: Iterable[NewJob]) -> int:
        """Enqueue many jobs in bulk: records and messages in chunks, each chunk in one transaction.

        With your own app, the messages of a chunk are published after it.

        Args:
            jobs: read one by one; existing ones are not changed.

        Returns:
            Their number.

        Raises:
            UnknownJob: a job or batch that one of them comes after is unknown.
            SpecError: a batch takes no more jobs.
            LedgerUnavailable: Redis did not confirm a chunk; those before it are enqueued.
        """
        return enqueue_many(self.session, jobs)

    def replay(self, job_id: str, *, in_place: bool = False, **changes: Any) -> JobHandle:
        """Submit the description of an ended job again, to the same queue, linked to the original.

        With ``in_place`` the new job takes the original's place in its batch, which ends anew with it: the original
        counts no more, a cancellation or stop is lifted, and reduces run over the new outputs. The call may be
        repeated with the original's id: the job that is in the place then is returned if it has not ended or has
        succeeded, and else replayed.

        Args:
            job_id: the ended job.
            in_place: whether the new job takes its place in its batch.
            changes: fields of the description to be replaced, such as ``limits={"memory": "2G"}``; in objects (``env``,
                ``limits``, ``retry``, ...) only the named entries change.

        Raises:
            UnknownJob: there is no record.
            SpecError: the job has not ended, its record holds no description, a change is not valid, or it has no place
                in a batch.
        """
        if in_place:
            return JobHandle(self.session, replay_in_place(self.session, [job_id], changes)[job_id])
        return JobHandle(self.session, replay_job(self.session, job_id, changes))

    def submit_many(self, specs: Iterable[JobSpec | Mapping[str, Any]]) -> list[JobHandle]:
        """Submit several different jobs; return their handles in the same order. For one job per input see ``map``.

        Args:
            specs: their descriptions, read one by one.
        """
        jobs = [NewJob(str(uuid.uuid4()), JobSpec.parse(spec), self.queue) for spec in specs]
        self.submit_records(jobs)
        return [JobHandle(self.session, job.job_id) for job in jobs]

    def map(
        self,
        spec: JobSpec | Mapping[str, Any],
        inputs: Iterable[Any] = (),
        *,
        per_node: bool = False,
        name: str = "",
        max_parallel: int | None = None,
        min_success: float | None = None,
        max_failures: MaxFailures | None = None,
        key: str | None = None,
        key_of: KeyOf | None = None,
        again: bool = False,
        as_file: bool | None = None,
        speculate: Speculation | float | None = None,
        after: Sequence[Dependency] = (),
        after_each: BatchReference | str | None = None,
        on: On = "success",
        not_before: datetime | float | str | None = None,
    ) -> Batch:
        """Submit one job for each input, or for each node.

        Args:
            spec: the description; ``{item}``, ``{item.name}`` and ``{index}`` in its command, its entry point and the
                values of its environment are filled in for each input.
            inputs: any JSON values (and what ``submit`` takes as input), up to 100,000; read one by one and not kept.
            per_node: without inputs: one job on each node that is up now and meets the constraints; ``{item.node}`` is
                its host name. ``Batch.by_node`` has the results.
            name: for people.
            max_parallel: how many of the jobs may be active at once; None sets no limit.
            min_success: part of the jobs that must succeed for the batch to succeed. When it cannot be reached any
                more, the batch is stopped: FAILED, its open jobs cancelled. None: all must, and none stops the others.
            max_failures: how many jobs may fail (a number, or a share: 0.1 or ``"10%"``); one more stops the batch.
            key: idempotency key: the same key returns the same batch and submits only inputs that have no job yet.
                Results are in the order of the latest call's inputs; ``existing`` and ``difference`` tell what was.
            key_of: returns what an input is known by, such as its id; None takes a digest of its JSON. Inputs with the
                same key are different jobs, told apart by their order.
            again: with a key: submit what did not succeed again, in place, also after a cancellation or stop.
            as_file: True hands each input over as the file /run/jaas/input.json, which JAAS_INPUT names; None does so
                if the description has no placeholder for it.
            speculate: start slow jobs a second time near the batch's end: with 2.0 those that have run more than twice
                as long as the median of the others. The first success counts. Only with ``idempotent=True``.
            after: jobs and batches that all of them come after; see ``submit``.
            after_each: a batch or its id: job i comes after job i of that one.
            on: see ``submit``.
            not_before: see ``submit``; seconds count from each submission.

        Raises:
            SpecError: a description is not valid with its input; the same call with the same key continues the batch.
        """
        spec = JobSpec.parse(spec)
        new = NewBatch(name, max_parallel, min_success, max_failures, _batch_key(key), key_of, again, speculate)
        each, start = _of_each(after_each, on), start_time(not_before, spec)
        comes_after = dependencies(after, on)
        if per_node:
            inputs, as_file = node_inputs(self.session, spec, inputs, speculate), bool(as_file)
        batch_id, spec = new.create(self.session, spec)  # from here on all but the inputs is known to be good
        template = Template(spec, comes_after, each, as_file, start, per_node)
        made = submit_map(self.session, batch_id, new, template, inputs)
        return Batch(self.session, batch_id, existing=made.existing, difference=made.difference)

    def map_reduce(
        self,
        map_spec: JobSpec | Mapping[str, Any],
        inputs: Iterable[Any],
        reduce_spec: JobSpec | Mapping[str, Any],
        *,
        fan_in: int = 256,
        name: str = "",
        max_parallel: int | None = None,
        min_success: float | None = None,
        max_failures: MaxFailures | None = None,
        key: str | None = None,
        key_of: KeyOf | None = None,
        again: bool = False,
        as_file: bool | None = None,
        speculate: Speculation | float | None = None,
    ) -> MapReduce:
        """Submit one map job for each input, and reduce jobs over their outputs.

        The reduces start once, when every map has ended and the quorum is met. If there are more outputs than
        ``fan_in``, they form a tree. Each gets its inputs as JSON lines (index, state, output) in the file that
        JAAS_INPUT names. If too few maps succeed, the reduces are SKIPPED.

        Args:
            map_spec: as in ``map``; it should declare an ``output``.
            inputs: as in ``map``.
            reduce_spec: the description of each reduce; it should declare an ``output`` of the kind that it reads.
            fan_in: how many outputs one reduce job takes at most. Reduces that are there keep theirs.
            name: for people.
            max_parallel: how many maps may be active at once.
            min_success: as in ``map``; the reduces are SKIPPED when it is missed.
            max_failures: as in ``map``.
            key: as in ``map``. If a call adds or removes inputs, or orders them anew, the reduces run anew.
            key_of: as in ``map``.
            again: as in ``map``.
            as_file: as in ``map``.
            speculate: as in ``map``, for the maps.

        Raises:
            SpecError: an argument is not valid, or a description with its input; see ``map``.
        """
        if fan_in < 2:
            raise SpecError("fan_in: must be 2 at least, or a tree of reduces would never end", field="fan_in")
        map_spec, reduce_spec = JobSpec.parse(map_spec), JobSpec.parse(reduce_spec)
        new = NewBatch(name, max_parallel, min_success, max_failures, _batch_key(key), key_of, again, speculate)
        batch_id, map_spec = new.create(self.session, map_spec)
        reduce_spec = send_files(self.session, reduce_spec, f"batch:{batch_id}")
        made = submit_map(self.session, batch_id, new, Template(map_spec, as_file=as_file), inputs)
        levels = submit_reduces(self.session, reduce_spec, self.ledger.batches.get(batch_id), made.total, fan_in)
        maps = Batch(self.session, batch_id, existing=made.existing, difference=made.difference)
        return MapReduce(self.session, maps, [Batch(self.session, one) for one in levels])

    def map_reduce_of(self, batch_id: str) -> MapReduce:
        """Return a map/reduce that was submitted earlier, here or elsewhere.

        Args:
            batch_id: id of its maps, which is its own id, or of one of its reduces' batches.

        Raises:
            UnknownJob: there is no such batch.
            SpecError: no reduces follow it.
        """
        return map_reduce_of(self.session, batch_id)

    def batch(self, batch_id: str, *, lazy: bool = False) -> Batch:
        """Return a batch that was submitted earlier, here or elsewhere.

        Args:
            batch_id: the batch's id.
            lazy: do not ask Redis whether there is such a batch; its methods raise UnknownJob then.

        Raises:
            UnknownJob: there is no such batch.
        """
        if not lazy:
            self.ledger.batches.get(batch_id)
        return Batch(self.session, batch_id)


def _batch_key(key: object) -> str | None:
    return text_or_none("key", key, "leave it out for a batch that may be submitted twice")


def _of_each(batch: BatchReference | str | None, on: On) -> tuple[str, str] | None:
    return None if batch is None else (getattr(batch, "id", str(batch)), on)
