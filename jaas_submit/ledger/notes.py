"""What workers note of a job where producers cannot write: its queue, its pinned image, what it takes of a
service, and which jobs are in flight.

A producer may write every record. The ACL rules of `jaas redis-acl` give it no right to these keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from jaas_submit.connection.connection import as_text, redis_errors
from jaas_submit.ledger.base import Part

__all__ = ["Note", "WorkerNotes"]

_KEPT_S: Final = 30 * 86400
"""Seconds for which a note is kept after it was written last, unless its record goes before. A job without one is
pinned anew."""


class Note(NamedTuple):
    """What workers have noted of a job; empty texts where they have noted nothing."""

    queue: str = ""
    """By which its first message came."""
    image: str = ""
    """With the digest that all of its attempts use."""
    like: str = ""
    """Fields of the service that it is to be like, as JSON, as they were when a worker looked it up."""


class WorkerNotes(Part):
    """A worker's notes about jobs, for workers alone."""

    def get(self, job_id: str) -> Note:
        """Return what workers have noted of a job."""
        with redis_errors(f"job {job_id}"):
            found = self._client.hmget(self._key("noted", job_id), *Note._fields)
        return Note(*(as_text(one or "") for one in found))

    def note_queue(self, job_id: str, queue: str) -> None:
        """Note by which queue a job came, unless that was noted before.

        Args:
            job_id: the job's id.
            queue: of its first message.
        """
        key = self._key("noted", job_id)
        with redis_errors(f"job {job_id}"):
            pipe = self._client.pipeline(transaction=True)
            pipe.hsetnx(key, "queue", queue)
            pipe.expire(key, _KEPT_S)
            pipe.execute()

    def pin_image(self, job_id: str, image: str) -> None:
        """Note which image all attempts of a job use.

        Args:
            job_id: the job's id.
            image: with its digest.
        """
        self._note(job_id, "image", image)

    def note_like(self, job_id: str, fields: str) -> str:
        """Note what all attempts of a job take of a service, unless that was noted before.

        Args:
            job_id: the job's id.
            fields: of the service, as JSON.

        Returns:
            What is noted: another worker may have been quicker.
        """
        key = self._key("noted", job_id)
        with redis_errors(f"job {job_id}"):
            pipe = self._client.pipeline(transaction=True)
            pipe.hsetnx(key, "like", fields)
            pipe.expire(key, _KEPT_S)
            pipe.hget(key, "like")
            return as_text(pipe.execute()[2])

    def _note(self, job_id: str, name: str, value: str) -> None:
        key = self._key("noted", job_id)
        with redis_errors(f"job {job_id}"):
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(key, name, value)
            pipe.expire(key, _KEPT_S)
            pipe.execute()

    def take_places(self, job_id: str, limits: Mapping[str, int]) -> str:
        """Count a job among those in flight, if no limit forbids it. Again for the same job it does no harm.

        A place is free again when its job ends or backs off: nobody has to give it back.

        Args:
            job_id: the job's id.
            limits: name of what is counted -> how many jobs may be in flight.

        Returns:
            The name whose limit is reached; empty if the job may go on.
        """
        pairs = [[name, most] for name, most in limits.items()]
        return as_text(self._base.run_for(job_id, "notes/take_places", limits=pairs))
