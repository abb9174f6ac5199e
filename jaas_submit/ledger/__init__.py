"""The ledger: every job's record in Redis. The only room that knows Redis keys and scripts.

``Ledger`` is the interface. Each of its parts is for one kind of caller: ``submission`` for producers,
``ownership`` for the worker that holds a job, ``maintenance`` for cluster-wide duties, ``batches``,
``queries`` for readers, and ``health`` for `jaas doctor`. It does not know Celery, Docker, or the producers' client.

The Lua scripts are the files in ``scripts``. The header of each lists its arguments, its answer and every key that it
uses. docs/ledger.md lists all keys with their types, who writes them and when they expire.

Its rules:

* Every transition is one Lua script: it compares (state, holder) and sets record, indexes and channel together, so a
  crash cannot come between two commands.
* Every time is by Redis' clock (TIME inside the scripts): clocks of workers and producers do not matter.
* A worker may change a record only while it is the record's holder. One that was suspended past its lease finds
  another holder there and drops the job.
* A terminal record is never changed again, except for `reported` and its expiry, `replayed_by`, `left`, and
  `cancel`, which asks its holder to stop the container because a copy was faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaas_submit.ledger.base import RECORD_TTL, Base
from jaas_submit.ledger.batches import Batches
from jaas_submit.ledger.encoding import parse_record
from jaas_submit.ledger.health import Health
from jaas_submit.ledger.maintenance import Due, Maintenance
from jaas_submit.ledger.notes import Note, WorkerNotes
from jaas_submit.ledger.ownership import Claim, ClaimAction, Ownership
from jaas_submit.ledger.queries import Change, Outline, Queries
from jaas_submit.ledger.sent_files import SentFile, SentFiles
from jaas_submit.ledger.submission import Created, Submission
from jaas_submit.model.wire_names import DEFAULT_PREFIX

if TYPE_CHECKING:
    import redis

__all__ = [
    "Change",
    "Claim",
    "ClaimAction",
    "Created",
    "Due",
    "Ledger",
    "Note",
    "Outline",
    "SentFile",
    "parse_record",
]


class Ledger(Base):
    """All operations on records, in parts.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: first part of every key.
        ttl: seconds that a record is kept after the job has ended.

    Every method of it and its parts raises LedgerUnavailable when Redis cannot be reached or refuses; the same call may
    then be repeated.
    """

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX, ttl: float = RECORD_TTL) -> None:
        super().__init__(client, prefix, ttl)
        self.submission = Submission(self)
        """New jobs, and cancellations."""
        self.ownership = Ownership(self)
        """A worker's operations on the jobs that it holds."""
        self.notes = WorkerNotes(self)
        """What workers note where producers cannot write."""
        self.queries = Queries(self)
        """Reads of jobs and workers."""
        self.maintenance = Maintenance(self, self.queries)
        """Leases, and jobs that are unowned, overdue, lost or expired."""
        self.batches = Batches(self, self.queries, self.submission)
        """Batches as a whole; their jobs are jobs like any other."""
        self.sent_files = SentFiles(self)
        """Files that producers send with jobs."""
        self.health = Health(self, self.queries, self.batches)
        """Whether the ledger can be read, and whether jobs are claimed."""
