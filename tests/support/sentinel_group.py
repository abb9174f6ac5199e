"""A Redis master, its replica and the Sentinels that watch them: real processes, on the loopback interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.redis_server import OwnRedis, TLSFiles
from tests.support.wait import eventually

__all__ = ["MASTER", "Group", "OwnSentinel"]

MASTER = "jaas-test"
"""The master's name with the Sentinels."""

_PASSWORD = "open sesame/@?"
_SENTINEL_PASSWORD = "sesame & co"
_DOWN_AFTER = 2000
"""Milliseconds of silence that the Sentinels take for a death. On a busy machine live servers are silent for one."""


class OwnSentinel(OwnRedis):
    """A Sentinel.

    Args:
        folder: for its configuration, which it rewrites, and its log.
        master: port of the master.
        quorum: how many Sentinels must agree that it is gone.
        tls: with these files it speaks TLS only.
    """

    def __init__(self, folder: Path, master: int, quorum: int, tls: TLSFiles | None = None) -> None:
        super().__init__(folder, requirepass=_SENTINEL_PASSWORD)
        self.tls = tls
        self._config = folder / "sentinel.conf"
        self._config.write_text(
            "\n".join(
                [
                    *(f"{name} {value}" for name, value in self._ports().items()),
                    "bind 127.0.0.1",
                    f'dir "{folder}"',
                    f'requirepass "{_SENTINEL_PASSWORD}"',
                    f'sentinel sentinel-pass "{_SENTINEL_PASSWORD}"',
                    f"sentinel monitor {MASTER} 127.0.0.1 {master} {quorum}",
                    f'sentinel auth-pass {MASTER} "{_PASSWORD}"',
                    f"sentinel down-after-milliseconds {MASTER} {_DOWN_AFTER}",
                    f"sentinel failover-timeout {MASTER} 3000",
                ]
            )
        )

    def _arguments(self) -> list[str]:
        return [str(self._config), "--sentinel"]

    def start(self) -> OwnSentinel:
        super().start()
        with self.client() as client:
            # They find each other, and turn a former master into a replica, by what they publish and ask for: every two
            # and ten seconds, unless told otherwise. One that got no processor time does nothing for another 30.
            client.execute_command(
                *("SENTINEL", "DEBUG", "publish-period", "200", "info-period", "500", "tilt-period", "1000")
            )
        return self

    def state(self) -> dict[str, Any]:
        """Return what it knows of the master."""
        with self.client() as client:
            return dict(client.sentinel_master(MASTER))


class Group:
    """One master, one replica, and Sentinels that take two seconds' silence for a death.

    Args:
        folder: for data, configurations and logs.
        sentinels: how many.
        tls: with these files all of them speak TLS only.
    """

    def __init__(self, folder: Path, sentinels: int = 3, tls: TLSFiles | None = None) -> None:
        shared = {
            "requirepass": _PASSWORD,
            "masterauth": _PASSWORD,
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
        }
        self.tls = tls
        first = OwnRedis(folder / "first", **shared)
        second = OwnRedis(folder / "second", **shared, replicaof=f"127.0.0.1 {first.port}")
        self.servers = [first, second]
        for server in self.servers:
            server.tls = tls
            server.start()
        quorum = sentinels // 2 + 1
        self.sentinels = [
            OwnSentinel(folder / f"sentinel-{n}", self.servers[0].port, quorum, tls).start() for n in range(sentinels)
        ]
        eventually(self.complete, 60, lambda: f"all to know each other: {[one.state() for one in self.sentinels]}")

    def complete(self) -> bool:
        """Return whether master and replica are in step, and every Sentinel knows all others."""
        states = [sentinel.state() for sentinel in self.sentinels]
        return all(
            state["num-slaves"] == len(self.servers) - 1
            and state["num-other-sentinels"] == len(states) - 1
            and state["flags"] == "master"
            for state in states
        ) and all(server is self.master or self._follows(server) for server in self.servers)

    def role(self, server: OwnRedis) -> str:
        """Return what a server takes itself for: ``master`` or ``slave``."""
        with server.client() as client:
            return str(client.info("replication")["role"])

    def _follows(self, server: OwnRedis) -> bool:
        with server.client() as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    @property
    def master(self) -> OwnRedis:
        """The server that the first Sentinel names as the master."""
        port = self.sentinels[0].state()["port"]
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> OwnRedis:
        """The other one."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def in_step(self) -> bool:
        """Return whether the replica has everything that the master has."""
        offsets = set()
        for server in self.servers:
            with server.client() as client:
                offsets.add(client.info("replication")["master_repl_offset"])
        return len(offsets) == 1

    def promoted(self, server: OwnRedis) -> bool:
        """Return whether every Sentinel names this server as the master."""
        return all(state["port"] == server.port for state in (one.state() for one in self.sentinels))

    @property
    def url(self) -> str:
        """What jaas is told."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        secret = quote(_SENTINEL_PASSWORD, safe="")
        kind, more = ("sentinel", "") if self.tls is None else ("sentinels", f"&{self.tls.query}")
        login = f":{quote(_PASSWORD, safe='')}"
        return f"{kind}://{login}@{hosts}/0?master={MASTER}&sentinel_password={secret}{more}"

    def close(self) -> None:
        """End all processes."""
        for process in (*self.sentinels, *self.servers):
            process.kill()
