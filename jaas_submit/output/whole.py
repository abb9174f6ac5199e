"""Whole outputs: what agents found of containers that have exited, until a worker has stored it in the ledger."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any, Final

from jaas_submit.connection.connection import redis_errors
from jaas_submit.output.budget import Budgeted
from jaas_submit.output.pieces import READING, WholeOutput

__all__ = ["WholeOutputs"]

WHOLE_S: Final = 3600
"""Seconds for which a whole output is kept."""


class WholeOutputs(Budgeted):
    """All whole outputs. Every method raises LedgerUnavailable when Redis cannot be reached or refuses."""

    def put(self, job_id: str, attempt: int, output: WholeOutput) -> bool:
        """Keep the output of an attempt, before its container's exit is forwarded.

        Args:
            job_id: the job's id.
            attempt: which attempt.
            output: what was found.

        Returns:
            False when Redis had no room for head and tail: all else was kept, and ``get`` says that they are missing.
        """
        about = json.dumps({**asdict(output), "logs": None}).encode()
        named: dict[str, Any] = {"job": job_id, "attempt": attempt, "keep": WHOLE_S, **self._budget}
        return bool(self.run("put_whole", "output", about, output.logs, **named))

    def get(self, job_id: str, attempt: int) -> WholeOutput | None:
        """Return what an agent found of an attempt; None where there is nothing, or nothing that can be read.

        Args:
            job_id: the job's id.
            attempt: which attempt.
        """
        with redis_errors("output"):
            found: list[Any] = self.client.hmget(self._key(job_id, attempt), "about", "logs")
        about, logs = found
        try:
            data = json.loads(about or b"")
            known = {name: data[name] for name in WholeOutput.__dataclass_fields__ if name in data}
            output = WholeOutput(**{**known, "logs": logs or b""})
        except (ValueError, TypeError, KeyError):
            return None
        if logs is not None or output.status == READING:
            return output
        return replace(output, status="unavailable", reason="Redis had no room for it")

    def delete(self, job_id: str, attempt: int) -> None:
        """Delete an output that a worker has stored.

        Args:
            job_id: the job's id.
            attempt: which attempt.
        """
        with redis_errors("output"):
            pipe = self.client.pipeline(transaction=False)
            pipe.unlink(self._key(job_id, attempt))
            pipe.zrem(self.key("output", "whole"), f"{job_id}:{attempt}")
            pipe.execute()

    def _key(self, job_id: str, attempt: int) -> str:
        return self.key("whole", job_id, attempt)
