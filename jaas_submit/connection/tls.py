"""Connections with TLS that say quickly when the server speaks none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any, Final

import redis
from redis.asyncio import SSLConnection as AsyncSSLConnection

__all__ = ["AsyncTLSConnection", "NoTLS", "TLSConnection"]

_HANDSHAKE_S: Final = 3.0
"""Seconds for a handshake. A server without TLS waits for the end of what it takes for a command, and says nothing."""

_PROBE_S: Final = 2.0
_PROBE: Final = b"PING\r\n"


class NoTLS(redis.ResponseError):
    """The server speaks no TLS. It is no error of the connection: another try would not help."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} speaks no TLS; write redis:// in the place of rediss:// (sentinel:// of sentinels://), or "
            "the port where it does"
        )


class TLSConnection(redis.SSLConnection):
    """redis-py's own, with a time limit for the handshake."""

    host: str
    port: int
    socket_timeout: float | None

    def _connect(self) -> Any:
        kept = self.socket_timeout
        self.socket_timeout = _HANDSHAKE_S if kept is None else min(kept, _HANDSHAKE_S)
        try:
            made = super()._connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, redis.RedisError) as error:
            if _connected(error) and _speaks_plain(self.host, self.port):
                raise NoTLS(self.host, self.port) from error
            raise
        finally:
            self.socket_timeout = kept
        made.settimeout(kept)
        return made


class AsyncTLSConnection(AsyncSSLConnection):
    """The same for asyncio."""

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                await super()._connect()  # type: ignore[no-untyped-call] # the same
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, redis.RedisError) as error:
            if _connected(error) and await asyncio.to_thread(_speaks_plain, self.host, self.port):
                raise NoTLS(self.host, self.port) from error
            raise


def _connected(error: BaseException) -> bool:
    """Return whether an error may have come after the connection was made."""
    return not isinstance(error, ConnectionRefusedError | socket.gaierror) and "certificate" not in str(error).lower()


def _speaks_plain(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=_PROBE_S) as made:
        made.sendall(_PROBE)
        return made.recv(1) in {b"+", b"-"}
    return False
