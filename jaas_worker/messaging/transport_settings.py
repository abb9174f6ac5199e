"""The settings of a worker's broker, and the options of its transport."""

from __future__ import annotations

from typing import Any

from jaas_submit.connection.url import sentinel_address

__all__ = ["options", "settings"]


def settings(url: str, common: dict[str, Any], prefix: str, queue: str) -> dict[str, Any]:
    """Return Celery's settings of a worker's broker.

    Args:
        url: of Redis (``jaas_submit.connection.url``).
        common: the transport options of producers.
        prefix: of this installation's keys.
        queue: of this installation's jobs.

    Raises:
        SpecError: the URL is not valid.
    """
    address = sentinel_address(url)
    more = {**common, **options(prefix, queue)}
    if address is None:
        return {"broker_transport": "jaas_worker.messaging.redis_transport:Transport", "broker_transport_options": more}
    # With the URLs of all Sentinels, kombu would use the next of them after a lost connection, with the stock transport
    # of its scheme. The options of that transport cannot be sent as JSON.
    for stocks in ("master_name", "sentinel_kwargs"):
        more.pop(stocks, None)
    first = address.celery_urls()[0]
    return {
        "broker_transport": "jaas_worker.messaging.sentinel_transport:SentinelTransport",
        "broker_transport_options": {**more, "sentinel": address},
        "broker_read_url": first,
        "broker_write_url": first,
    }


def options(prefix: str, queue: str) -> dict[str, Any]:
    """Return the transport options of a worker, on top of those that producers have.

    Args:
        prefix: of this installation's keys.
        queue: of this installation's jobs.
    """
    return {
        "main_queue": queue,
        # Separate keys: all Celery clients of a Redis share the stock ones, and the shortest visibility_timeout applies
        # to all.
        "unacked_key": f"{prefix}:unacked",
        "unacked_index_key": f"{prefix}:unacked_index",
        "unacked_mutex_key": f"{prefix}:unacked_mutex",
        "ended_key": f"{prefix}:unacked_ended",
        "leases_key": f"{prefix}:holders",
        "redelivered_key": f"{prefix}:unacked_redelivered",
        # A message that a worker has received and not claimed is delivered again after this many seconds, if that
        # worker is gone. If it is not, the duplicate is harmless, because the ledger knows the job.
        "visibility_timeout": 60,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 1000,
        # Redis answers a waiting worker every second; after this many more seconds without an answer the connection is
        # dead.
        "health_check_interval": 5,
        "socket_timeout": 5,
    }
