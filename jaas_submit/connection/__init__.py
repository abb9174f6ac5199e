"""Redis, reached: the URL, connections to one server or to the master that Sentinel names, subscriptions.

This room knows what Redis' errors mean to jaas. It knows no key, no script and no record: those are the ledger's.
"""

from jaas_submit.connection.connection import (
    as_text,
    connect,
    connect_async,
    master_address,
    redis_errors,
    server_info,
)
from jaas_submit.connection.subscription import AsyncSubscription, Subscription

__all__ = [
    "AsyncSubscription",
    "Subscription",
    "as_text",
    "connect",
    "connect_async",
    "master_address",
    "redis_errors",
    "server_info",
]
