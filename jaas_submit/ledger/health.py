"""The ledger's checks for `jaas doctor`: whether it can be read, and whether jobs are claimed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from jaas_submit.connection.connection import as_text, redis_errors, wrong_type
from jaas_submit.ledger.base import Base, Part
from jaas_submit.ledger.batches import Batches
from jaas_submit.ledger.queries import Queries
from jaas_submit.model.states import TERMINAL, JobState

__all__ = ["Health"]

_KINDS: Final = {
    **dict.fromkeys(("jobs", "batches", "due", "deadlines", "holders", "unowned", "ready"), "zset"),
    "unacked": "hash",
    "unacked_index": "zset",
    **{f"state:{state}": "zset" for state in JobState},
    **dict.fromkeys(("newest_received", "last_claim"), "hash"),
    **dict.fromkeys(("cancelling", "speculating"), "set"),
    "pending_dependents": "list",
    **dict.fromkeys(("cluster", "identity", "secret"), "string"),
}
"""What the ledger's own keys hold, apart from those of jobs, batches and workers; and what workers note of messages."""

_YOUNGEST: Final = 1000
_OLDEST: Final = 500
_PAGE: Final = 500

_SCAN: Final = 5000
_MOST_SCANS: Final = 100
"""Of so many keys each: half a million keys, in a quarter of a second or so."""


class Health(Part):
    """Checks of the ledger itself.

    Args:
        base: of the ledger that it is a part of.
        queries: of the same ledger.
        batches: of the same ledger.
    """

    def __init__(self, base: Base, queries: Queries, batches: Batches) -> None:
        super().__init__(base)
        self._queries = queries
        self._batches = batches

    def last_claim(self, queue: str) -> float:
        """Return when a worker claimed a job of a queue last, in seconds since the epoch; 0 if none ever did."""
        import redis

        with redis_errors("claims"):
            try:
                found = self._client.hget(self._key("last_claim"), queue)
            except redis.ResponseError as error:
                wrong_type(error)
                found = None
        try:
            return float(as_text(found)) if found else 0.0
        except ValueError:
            return 0.0

    def other_prefixes(self) -> dict[str, int]:
        """Return how many workers of other prefixes are alive in this Redis, as far as this user may see that.

        Redis is scanned, but not to the end if it holds very many keys.
        """
        import redis

        names: set[str] = set()
        found: dict[str, int] = {}
        with redis_errors("workers"):
            now, _ = self._client.time()
            cursor = 0
            for _ in range(_MOST_SCANS):
                try:
                    cursor, keys = self._client.scan(cursor, match="*:holders", count=_SCAN, _type="zset")
                except redis.exceptions.NoPermissionError:  # only a worker's user may see the names of all keys
                    return found
                names.update(map(as_text, keys))
                if not cursor:
                    break
            pipe = self._client.pipeline(transaction=False)
            own = self._key("holders")
            ordered = sorted(names - {own})
            for name in ordered:
                pipe.zcount(name, now, "+inf")
            for name, count in zip(ordered, pipe.execute(raise_on_error=False), strict=True):
                if isinstance(count, int) and count:
                    found[name.removesuffix(":holders")] = count
        return found

    def oldest_queued(self) -> dict[str, int]:
        """Return in which queues the 500 jobs are that have been QUEUED for longest, and how many in each."""
        key = self._key(f"state:{JobState.QUEUED}")
        with redis_errors("queue"):
            if as_text(self._client.type(key)) not in {"zset", "none"}:
                return {}
            ids = [as_text(job_id) for job_id in self._client.zrange(key, 0, _OLDEST - 1)]
            pipe = self._client.pipeline(transaction=False)
            for job_id in ids:
                pipe.hget(self._key("job", job_id), "queue")
            rows = pipe.execute(raise_on_error=False) if ids else []
        return dict(Counter(as_text(row) for row in rows if isinstance(row, bytes)))

    def misplaced(self, lists: Sequence[str] = ()) -> dict[str, str]:
        """Return the ledger's own keys that hold another kind of value than they should: key and what it holds.

        Args:
            lists: names of keys that are to hold lists: those that a queue is made of.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        import redis

        kinds = {self._key(name): wanted for name, wanted in _KINDS.items()} | dict.fromkeys(lists, "list")
        with redis_errors("keys"):
            pipe = self._client.pipeline(transaction=False)
            for key in kinds:
                pipe.type(key)
            # A user that may not see a key cannot say what it holds.
            found = dict(zip(kinds.items(), pipe.execute(raise_on_error=False), strict=True))
            for one in found.values():
                if isinstance(one, Exception) and not isinstance(one, redis.exceptions.NoPermissionError):
                    raise one
        seen = {place: as_text(kind) for place, kind in found.items() if not isinstance(kind, Exception)}
        return {key: kind for (key, wanted), kind in seen.items() if kind not in {wanted, "none"}}

    def look_through(self) -> int:
        """Read the youngest 1,000 records and in each open state the oldest 500, batches, workers and nodes.

        ``unreadable`` then names the unreadable ones.

        Returns:
            How many records of jobs were read.
        """
        names = ["jobs", *(f"state:{state}" for state in JobState if state not in TERMINAL)]
        ids: dict[str, None] = {}
        misplaced = self.misplaced()
        for name in names:
            if (key := self._key(name)) not in misplaced:
                most = _YOUNGEST if name == "jobs" else _OLDEST
                with redis_errors("jobs"):
                    found = self._client.zrange(key, 0, most - 1, desc=name == "jobs")
                ids.update((as_text(job_id), None) for job_id in found)
        wanted = list(ids)
        for start in range(0, len(wanted), _PAGE):
            self._queries.find(wanted[start : start + _PAGE])
        if self._key("batches") not in misplaced:
            self._batches.recent()
        self._queries.workers()
        self._queries.cluster()
        return len(wanted)
