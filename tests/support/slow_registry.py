"""A registry that knows one image and never hands out its layer: an engine that pulls it prepares for ever."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["SlowRegistry"]

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class SlowRegistry:
    """The registry; use it in a ``with`` statement. Engines take one on the loopback interface without TLS."""

    def __init__(self) -> None:
        self.asked_for_a_layer = threading.Event()
        self._over = threading.Event()
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [_digest(b"x")]}}
        self._config = json.dumps(config).encode()
        self._layer = _digest(uuid.uuid4().bytes)  # engines download a layer once for all who pull it
        self._manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(self._config),
                    "digest": _digest(self._config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": 1000,
                        "digest": self._layer,
                    }
                ],
            }
        ).encode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def image(self) -> str:
        """The image's name."""
        return f"127.0.0.1:{self._server.server_port}/slow:1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(registry: Self) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if "/manifests/" in self.path:
                    self._answer(registry._manifest, _MANIFEST)
                elif self.path.endswith(_digest(registry._config)):
                    self._answer(registry._config, "application/octet-stream")
                elif self.path.endswith(registry._layer):
                    registry.asked_for_a_layer.set()
                    registry._over.wait(60)
                else:
                    self._answer(b"{}", "application/json")

            do_HEAD = do_GET

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", _digest(body))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler
