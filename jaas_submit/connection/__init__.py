"""Connections to Redis: the URL, one server or the master that Sentinel names, subscriptions.

This room converts Redis' errors to errors of jaas. It knows no key, no script and no record: those are the ledger's.
"""

from jaas_submit.connection.connection import (
    as_text,
    connect,
    connect_async,
    database_of,
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
    "database_of",
    "master_address",
    "redis_errors",
    "server_info",
]
