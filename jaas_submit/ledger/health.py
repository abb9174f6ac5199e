"""The ledger, as `jaas doctor` looks at it: whether it can be read, and whether jobs are taken."""

from __future__ import annotations

from typing import Final

import redis

from jaas_submit.ledger.batches import BatchPart
from jaas_submit.ledger.connection import as_text, reach, wrong_type
from jaas_submit.ledger.readers import ReaderPart
from jaas_submit.states import TERMINAL, JobState

__all__ = ["HealthPart"]

_KINDS: Final = {
    **dict.fromkeys(("jobs", "batches", "due", "deadlines", "holders", "orphans", "released"), "zset"),
    **{f"state:{state}": "zset" for state in JobState},
    **dict.fromkeys(("heard", "claimed"), "hash"),
    **dict.fromkeys(("cancelling", "speculating"), "set"),
    "settling": "list",
    **dict.fromkeys(("cluster", "identity"), "string"),
}
"""What the ledger's own keys hold, apart from those of jobs, batches and workers."""

_YOUNGEST: Final = 1000
_OLDEST: Final = 500
_PAGE: Final = 500


class HealthPart(BatchPart, ReaderPart):
    """What there is to know of the ledger itself."""

    def claimed(self, queue: str) -> float:
        """Return when a worker claimed a job of a queue last, in seconds since the epoch; 0 where none ever did."""
        with reach("claims"):
            try:
                found = self.client.hget(self._key("claimed"), queue)
            except redis.ResponseError as error:
                wrong_type(error)
                found = None
        try:
            return float(as_text(found)) if found else 0.0
        except ValueError:
            return 0.0

    def misplaced(self) -> dict[str, str]:
        """Return the ledger's own keys that hold another kind of value than they should: key and what it holds."""
        with reach("keys"):
            pipe = self.client.pipeline(transaction=False)
            for name in _KINDS:
                pipe.type(self._key(name))
            found = zip(_KINDS.items(), map(as_text, pipe.execute()), strict=True)
        return {self._key(name): kind for (name, wanted), kind in found if kind not in {wanted, "none"}}

    def look_through(self) -> int:
        """Read the youngest 1,000 records and in each open state the oldest 500, batches, workers and nodes.

        ``unreadable`` then says what cannot be read.

        Returns:
            How many records of jobs were looked at.
        """
        names = ["jobs", *(f"state:{state}" for state in JobState if state not in TERMINAL)]
        ids: dict[str, None] = {}
        misplaced = self.misplaced()
        for name in names:
            if (key := self._key(name)) not in misplaced:
                most = _YOUNGEST if name == "jobs" else _OLDEST
                with reach("jobs"):
                    found = self.client.zrange(key, 0, most - 1, desc=name == "jobs")
                ids.update((as_text(job_id), None) for job_id in found)
        wanted = list(ids)
        for start in range(0, len(wanted), _PAGE):
            self.find(wanted[start : start + _PAGE])
        if self._key("batches") not in misplaced:
            self.batches()
        self.workers()
        self.cluster()
        return len(wanted)
