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

    def forward(self, what: str) -> bool:
        """Forward a container's end to all workers; as ``Ownership.exits`` hears it.

        Args:
            what: the notice, forwarded unchanged.

        Returns:
            False if no worker listens.
        """
        with redis_errors("container exit"):
            return bool(self.client.publish(self.channel("exits"), what))
