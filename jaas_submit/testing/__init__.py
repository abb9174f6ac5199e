"""Clients in memory, for tests of your own code: no Redis, no worker, no swarm. Jobs end as the test says.

The records are made by the same code as in an installation, over an imitation of Redis in this process. Only the
worker's part is played. It does not know the real worker, Docker, or a network.
"""

from __future__ import annotations

from jaas_submit.testing.clients import FakeAsyncClient, FakeClient
from jaas_submit.testing.endings import Ending, Ends, fails, runs, succeeds

__all__ = ["Ending", "Ends", "FakeAsyncClient", "FakeClient", "fails", "runs", "succeeds"]
