"""What an agent needs of the ledger: its id, and a way to tell workers of ended containers.

Agents do without ``Ledger``, whose records need pydantic: they are 10 MB smaller.
"""

from __future__ import annotations

import uuid

from jaas_submit.connection.connection import as_text, redis_errors
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.output.scripts import Base

__all__ = ["Ends"]


class Ends(Base):
    """The ends of containers. Every method raises LedgerUnavailable when Redis cannot be reached or refuses."""

    def identity(self) -> str:
        """Return the ledger's own id, which all its services carry; as ``Maintenance.identity``.

        Raises:
            LedgerUnavailable: also where there is none yet, and an agent's user may not write it.
        """
        import redis

        key = self.key("identity")
        with redis_errors("identity"):
            found = self.client.get(key)
            if found is None:
                try:
                    self.client.set(key, uuid.uuid4().hex[:16], nx=True)
                except redis.exceptions.NoPermissionError:
                    why = "no worker with this prefix has started yet, so that the ledger has no id"
                    raise LedgerUnavailable(why) from None
                found = self.client.get(key)
            return as_text(found)

    def forward(self, what: str) -> bool:
        """Forward a container's end to all workers; as ``Ownership.exits`` hears it.

        Args:
            what: the notice, forwarded unchanged.

        Returns:
            False if no worker listens.
        """
        with redis_errors("container exit"):
            return bool(self.client.publish(self.channel("exits"), what))
