"""Celery's result backend over Sentinel, on connections that follow the master."""

from __future__ import annotations

from typing import Any

from celery.backends import redis as stock

from jaas_submit.connection.sentinel import MasterConnection, MasterTLSConnection

__all__ = ["SentinelBackend"]


class SentinelBackend(stock.SentinelBackend):
    """Celery's own, with the connections of ``MasterConnection``."""

    connparams: dict[str, Any]  # missing in celery-types

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with_tls = "ssl_cert_reqs" in self.connparams
        self.connparams["connection_class"] = MasterTLSConnection if with_tls else MasterConnection
