"""The ground of the ledger's parts: the client, the keys, and how a script is run."""

from __future__ import annotations

import json
from typing import Any, Final

import redis
from redis.client import Pipeline
from redis.commands.core import Script

from jaas_submit.connection.connection import redis_errors
from jaas_submit.connection.sentinel import replicas_asked
from jaas_submit.ledger.lua import source
from jaas_submit.names import DEFAULT_PREFIX

__all__ = ["RECORD_TTL", "Base", "Part"]

RECORD_TTL: Final = 7 * 86400
"""Seconds that a record and its logs are kept after the job has ended."""

_REPLICATION_TIMEOUT_MS: Final = 1000
"""Time that replicas have for telling that they have a write; usually they take one millisecond."""

# NaN and infinity are not in JSON: Redis would refuse the whole script.
_to_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Base:
    """What every part of the ledger needs; see ``Ledger`` for the arguments."""

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX, ttl: float = RECORD_TTL) -> None:
        self.client = client
        self.prefix = prefix
        self.ttl = int(ttl)
        self.replicas = replicas_asked(client)
        """How many replicas must have a submitted job, and an outcome; 0 waits for none."""
        self._scripts: dict[str, Script] = {}

    def __repr__(self) -> str:
        return f"Ledger(prefix={self.prefix!r})"

    def key(self, *parts: object) -> str:
        """Return a key: the prefix and what follows it."""
        return ":".join([self.prefix, *map(str, parts)])

    def run(self, script: str, what: str, *texts: str | bytes, **named: object) -> Any:
        """Run a script and return its answer.

        Args:
            script: its path in ``scripts``, without ``.lua``.
            what: it is about, for errors.
            texts: its further arguments, as they are.
            named: its named arguments; those that are None are left out.

        Raises:
            LedgerUnavailable: Redis cannot be reached, or refuses.
        """
        with redis_errors(what):
            return self._script(script)(args=[self._arguments(named), *texts])

    def run_for(self, job_id: str, script: str, *texts: str | bytes, **named: object) -> Any:
        """Run a script about one job, and return its answer; see ``run``."""
        return self.run(script, f"job {job_id}", *texts, id=job_id, **named)

    def add_to(self, pipe: Pipeline, script: str, **named: object) -> None:
        """Have a pipeline run a script that takes no texts.

        Args:
            pipe: of this ledger's client.
            script: as for ``run``.
            named: as for ``run``.
        """
        self._script(script)(args=[self._arguments(named)], client=pipe)

    def _script(self, name: str) -> Script:
        """Return a script; Redis is sent the text once and then its digest."""
        if name not in self._scripts:
            self._scripts[name] = self.client.register_script(source(name))
        return self._scripts[name]

    def _arguments(self, named: dict[str, object]) -> str:
        return _to_json({"prefix": self.prefix, **{name: value for name, value in named.items() if value is not None}})

    def replicated(self, *keys: str) -> bool:
        """Return whether as many replicas as the URL asks for have everything that was written until now.

        Args:
            keys: what must be there, too: a fail-over may have come between writing and asking.
        """
        if not self.replicas:
            return True
        with redis_errors("replicas"):
            pipe = self.client.pipeline(transaction=False)
            # WAIT is about what its own connection has written; replicas get all writes in one order.
            pipe.set(self.key("replicated"), 1, ex=60)
            pipe.wait(self.replicas, _REPLICATION_TIMEOUT_MS)
            pipe.exists(*keys or (self.key("replicated"),))
            _, confirmed, there = pipe.execute()
        return bool(confirmed >= self.replicas and there >= len(keys))

    def now(self) -> float:
        """Return Redis' clock, in seconds since the epoch."""
        with redis_errors("clock"):
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6


class Part:
    """What one kind of caller does with the ledger.

    Args:
        base: of the ledger that it is a part of.
    """

    def __init__(self, base: Base) -> None:
        self._base = base
        self._client = base.client
        self._key = base.key
