"""``redis_transport`` over Sentinel: each new connection goes to the present master."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from kombu.transport import redis as stock

from jaas_submit.connection.sentinel import Finder, MasterConnection, MasterTLSConnection
from jaas_submit.connection.url import SentinelAddress
from jaas_worker.messaging.redis_transport import Channel, Transport
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["SentinelChannel", "SentinelTransport"]

logger = logging.getLogger(__name__)


class _Finder(Finder):
    """Logs a change of the master."""

    found: ClassVar[dict[str, tuple[str, int]]] = {}
    """The last known one by its name. Of the class, because each channel makes an instance."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        now = super().discover_master(service_name)
        if self.found.get(service_name, now) != now:
            logger.warning(
                "the master of %s is now %s:%d", service_name, *now, extra=action(Action.REDIS_MASTER_CHANGED)
            )
        self.found[service_name] = now
        return now


class SentinelChannel(Channel, stock.SentinelChannel):
    """Asks Sentinel for the present master at each new connection."""

    from_transport_options = (
        *Channel.from_transport_options,
        *stock.SentinelChannel.from_transport_options,
        "sentinel",
    )

    connection_class = MasterConnection
    connection_class_ssl = MasterTLSConnection

    sentinel: SentinelAddress
    """The master's name; an option of the transport."""

    _sentinel_manager: Any
    _async_sentinel_manager: Any

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        params = self._connparams(asynchronous)
        # The URL's credentials are the Sentinel's.
        params = {name: value for name, value in params.items() if name not in {"host", "port"}}
        finder = _Finder(self.sentinel)
        # The stock channel closes them.
        if asynchronous:
            self._async_sentinel_manager = finder
        else:
            self._sentinel_manager = finder
        return finder.master(**params).connection_pool


class SentinelTransport(Transport):
    """``Transport`` over Sentinel."""

    Channel = SentinelChannel
