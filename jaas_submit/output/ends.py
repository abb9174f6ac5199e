"""What an agent needs of the ledger: its id, and the holder of a job whose container has ended.

Agents do without ``Ledger``, whose records need pydantic: they are 10 MB smaller.
"""

from __future__ import annotations

import uuid

from jaas_submit.connection.connection import as_text, redis_errors
from jaas_submit.output.scripts import Base

__all__ = ["Ends"]


class Ends(Base):
    """The ends of containers. Every method raises LedgerUnavailable when Redis cannot be reached or refuses."""

    def identity(self) -> str:
        """Return the ledger's own id, which all its services carry; as ``Maintenance.identity``."""
        key = self.key("identity")
        with redis_errors("identity"):
            self.client.set(key, uuid.uuid4().hex[:16], nx=True)
            return as_text(self.client.get(key))

    def forward(self, job_id: str, what: str) -> bool:
        """Forward a container's end to the job's holder.

        Args:
            job_id: the job's id.
            what: the notice, forwarded unchanged.

        Returns:
            False if no worker holds the job, or the holder does not listen.
        """
        return bool(self.run("forward_exit", f"job {job_id}", what, job=job_id))
