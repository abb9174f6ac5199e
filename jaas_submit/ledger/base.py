"""What every part of the ledger needs: the client, the keys, and a way to run scripts."""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.commands.core import Script

from jaas_submit.ledger.connection import reach
from jaas_submit.ledger.lua_shared import HEAD
from jaas_submit.ledger.sentinel import replicas_asked
from jaas_submit.names import DEFAULT_PREFIX

__all__ = ["Base"]

RECORD_TTL: Final = 7 * 86400
"""Seconds that a record and its logs are kept after the job has ended."""


_REPLICAS_PATIENCE: Final = 1000
"""Milliseconds that replicas have for telling that they have a write; usually they take one."""


class Base:
    """The ground of the ledger's parts; see ``Ledger`` for the arguments."""

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX, ttl: float = RECORD_TTL) -> None:
        self.client = client
        self.prefix = prefix
        self.ttl = int(ttl)
        self.replicas = replicas_asked(client)
        """How many replicas must have a submitted job, and an outcome; 0 waits for none."""
        self._scripts: dict[str, Script] = {}

    def __repr__(self) -> str:
        return f"Ledger(prefix={self.prefix!r})"

    def _key(self, *parts: object) -> str:
        return ":".join([self.prefix, *map(str, parts)])

    def _script(self, code: str) -> Script:
        """Return a script by its Lua code; Redis is sent the code once and then its digest."""
        if code not in self._scripts:
            self._scripts[code] = self.client.register_script(HEAD + code)
        return self._scripts[code]

    def _run(self, code: str, job_id: str, *args: Any) -> Any:
        with reach(f"job {job_id}"):
            return self._script(code)(keys=[self._key("job", job_id)], args=[self.prefix, job_id, *args])

    def _run_all(self, what: str, code: str, *args: Any) -> Any:
        with reach(what):
            return self._script(code)(args=[self.prefix, *args])

    def replicated(self, *keys: str) -> bool:
        """Return whether as many replicas as the URL asks for have everything that was written until now.

        Args:
            keys: what must be there, too: a fail-over may have come between writing and asking.
        """
        if not self.replicas:
            return True
        with reach("replicas"):
            pipe = self.client.pipeline(transaction=False)
            # WAIT is about what its own connection has written; replicas get all writes in one order.
            pipe.set(self._key("replicated"), 1, ex=60)
            pipe.wait(self.replicas, _REPLICAS_PATIENCE)
            pipe.exists(*keys or (self._key("replicated"),))
            _, confirmed, there = pipe.execute()
        return bool(confirmed >= self.replicas and there >= len(keys))

    def now(self) -> float:
        """Return Redis' clock, in seconds since the epoch."""
        with reach("clock"):
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6
