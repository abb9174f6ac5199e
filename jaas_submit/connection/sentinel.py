"""Connections to Redis, by its URL: to one server, or to the master that Sentinel names."""

from __future__ import annotations

from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio import sentinel as asynchronous
from redis.credentials import UsernamePasswordCredentialProvider
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelManagedConnection

from jaas_submit.connection.tls import AsyncTLSConnection, TLSConnection
from jaas_submit.connection.url import SentinelAddress, sentinel_address, server_url
from jaas_submit.errors import SpecError

__all__ = [
    "AsyncFinder",
    "AsyncMasterConnection",
    "Finder",
    "MasterConnection",
    "MasterTLSConnection",
    "async_client",
    "client",
    "sentinel_options",
    "tls_options",
]

_NO_MASTER: Final = "no Sentinel names a master {!r} that is up"

_SENTINEL_TIMEOUTS: Final[dict[str, Any]] = {
    # If a Sentinel does not answer, the next one is asked, without a retry (redis-py's default is three, with up to ten
    # seconds in between, at each new connection).
    "socket_connect_timeout": 1,
    "socket_timeout": 2,
    "retry": None,
}


class _MasterConnection(SentinelManagedConnection):
    """A connection to the master at the time of connecting.

    redis-py 6 to 8.1 asks Sentinel when it takes a connection from its pool, but not when a command is repeated after
    its connection was lost (https://github.com/redis/redis-py/issues/3874): that goes to the former master, which does
    not answer, or comes back, accepts the write, and loses it when Sentinel makes it a replica.
    """

    def connect(self) -> None:
        """Connect, with the retries of the policy."""
        self.retry.call_with_retry(self.connect_check_health, lambda _error: None)

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = False) -> None:
        """Connect once: the caller repeats everything, including the search for the master."""
        del retry_socket_connect
        if not self._sock:
            self.host, self.port = self.connection_pool.get_master_address()
        super().connect_check_health(check_health, retry_socket_connect=False)


class _AsyncMasterConnection(asynchronous.SentinelManagedConnection):
    """``_MasterConnection`` for asyncio."""

    async def connect(self) -> None:
        """Connect, with the retries of the policy."""
        await self.retry.call_with_retry(self.connect_check_health, _pass_over)

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = False) -> None:
        """Connect once; see ``_MasterConnection``."""
        del retry_socket_connect
        if not self.is_connected:
            self.host, self.port = await self.connection_pool.get_master_address()
        await super().connect_check_health(check_health, retry_socket_connect=False)


async def _pass_over(_error: Exception) -> None:
    pass


# redis-py 5 asks Sentinel at each connection, and connects in one step.
_ASKS_TOO_RARELY: Final = hasattr(redis.Connection, "connect_check_health")
MasterConnection: Final = _MasterConnection if _ASKS_TOO_RARELY else SentinelManagedConnection
AsyncMasterConnection: Final = _AsyncMasterConnection if _ASKS_TOO_RARELY else asynchronous.SentinelManagedConnection


class MasterTLSConnection(MasterConnection, TLSConnection):  # type: ignore[misc,valid-type] # chosen by the version
    """The same with TLS."""


class _AsyncMasterTLSConnection(AsyncMasterConnection, AsyncTLSConnection):  # type: ignore[misc,valid-type] # the same
    pass


def tls_options(address: SentinelAddress) -> dict[str, Any]:
    """Return the parameters of TLS, as redis-py, kombu and Celery take them; empty without TLS.

    Args:
        address: whose servers.
    """
    return dict(address.tls or ())


def sentinel_options(address: SentinelAddress) -> dict[str, Any]:
    """Return the arguments of a connection to a Sentinel, with an object for the password: it cannot be printed.

    Args:
        address: whose Sentinels.
    """
    made = {**_SENTINEL_TIMEOUTS, **({"ssl": True, **tls_options(address)} if address.tls is not None else {})}
    if address.sentinel_password:
        made["credential_provider"] = UsernamePasswordCredentialProvider(
            address.sentinel_username, address.sentinel_password
        )
    return made


def _server_options(address: SentinelAddress) -> dict[str, Any]:
    login = {"username": address.username or None, "password": address.password or None}
    return {"db": address.db, **login, **tls_options(address)}


class Finder(Sentinel):
    """Finds the master, or raises one sentence if there is none (redis-py lists all connections' options).

    Args:
        address: the Sentinels, and the master's name there. Nothing is connected yet.
    """

    def __init__(self, address: SentinelAddress) -> None:
        options = sentinel_options(address)
        super().__init__(address.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call] # so is redis-py
        self._master = address.master
        self.replicas = address.replicas

    def master(self, **options: Any) -> redis.Redis:
        """Return a client of the present master.

        Args:
            options: of its connections.
        """
        found: redis.Redis = self.master_for(self._master, **options)  # type: ignore[no-untyped-call] # so is redis-py
        return found

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the master's host and port.

        Args:
            service_name: the master's name.

        Raises:
            MasterNotFoundError: no Sentinel answers, or none knows one that is up.
        """
        try:
            found: tuple[str, int] = super().discover_master(service_name)  # type: ignore[no-untyped-call] # redis-py
        except MasterNotFoundError:
            raise MasterNotFoundError(_NO_MASTER.format(service_name)) from None
        return found


class AsyncFinder(asynchronous.Sentinel):
    """The same as ``Finder``, for asyncio."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the master's host and port; see ``Finder``."""
        try:
            found: tuple[str, int] = await super().discover_master(service_name)
        except asynchronous.MasterNotFoundError:
            raise asynchronous.MasterNotFoundError(_NO_MASTER.format(service_name)) from None
        return found


def client(url: str, **options: Any) -> redis.Redis:
    """Return a client of the server, or of the present master; nothing is connected yet.

    Args:
        url: as ``jaas_submit.connection.url`` describes.
        options: of ``redis.Redis``.

    Raises:
        SpecError: the URL has another form.
    """
    address = sentinel_address(url)
    if address is not None:
        kind = MasterConnection if address.tls is None else MasterTLSConnection
        options = {**options, **_server_options(address), "connection_class": kind}
        return Finder(address).master(**options)
    try:
        made: redis.Redis = redis.Redis.from_url(server_url(url), **options, **_kind(url, TLSConnection))
    except ValueError as error:
        raise SpecError(f"Redis URL: {error}") from None
    return made


def async_client(url: str, **options: Any) -> redis.asyncio.Redis:
    """Return what ``client`` returns, for asyncio.

    Args:
        url: as ``jaas_submit.connection.url`` describes.
        options: of ``redis.asyncio.Redis``.

    Raises:
        SpecError: the URL has another form.
    """
    address = sentinel_address(url)
    if address is None:
        return redis.asyncio.Redis.from_url(server_url(url), **options, **_kind(url, AsyncTLSConnection))
    finder = AsyncFinder(address.hosts, sentinel_kwargs=sentinel_options(address))  # type: ignore[no-untyped-call] # redis-py has no types here
    kind = AsyncMasterConnection if address.tls is None else _AsyncMasterTLSConnection
    options = {**options, **_server_options(address), "connection_class": kind}
    made: redis.asyncio.Redis = finder.master_for(address.master, **options)
    return made


def _kind(url: str, with_tls: type) -> dict[str, Any]:
    return {"connection_class": with_tls} if url.lower().startswith("rediss://") else {}
