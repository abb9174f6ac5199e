"""A worker that cannot work does not start, and says why in one sentence."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.support.redis_server import OwnRedis
from tests.support.worker import clean_env

pytestmark = [pytest.mark.redis]

STARTERS = {
    "celery worker": ["celery", "-A", "jaas_worker.app", "worker", "--loglevel=INFO"],
    "jaas worker": ["jaas_submit.cli.main", "worker"],
}


def start(starter: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a worker that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", *STARTERS[starter]],
        cwd=folder,
        env=clean_env(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in said
    (sentence,) = [line for line in said.splitlines() if line.startswith("jaas: ")]
    assert all(word in sentence for word in words), sentence
    assert " ready." not in said


class EngineStub(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """What an engine says of itself, on a socket; it can do nothing else.

    Args:
        path: of the socket.
        swarm: the part "Swarm" of its answer to /info.
    """

    daemon_threads = True

    def __init__(self, path: Path, swarm: dict[str, Any]) -> None:
        self.answers = {
            "/version": {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"},
            "/info": {"Name": "stub", "ServerVersion": "20.10.24", "Swarm": swarm},
        }
        super().__init__(str(path), _Answer)

    def __enter__(self) -> EngineStub:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    server: EngineStub

    def do_GET(self) -> None:
        found = next((answer for path, answer in self.server.answers.items() if self.path.endswith(path)), None)
        body = json.dumps(found or {"message": "page not found"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:  # a unix socket's peer has none
        return "peer"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def redis_of_mine(own_redis: Callable[..., OwnRedis]) -> str:
    return own_redis().url


@pytest.mark.parametrize("starter", STARTERS)
@pytest.mark.parametrize(
    ("swarm", "words"),
    [
        pytest.param({"LocalNodeState": "inactive"}, ("not in a swarm", "docker swarm init"), id="no swarm"),
        pytest.param(
            {"LocalNodeState": "active", "ControlAvailable": False}, ("not a manager", "promote"), id="a swarm worker"
        ),
        pytest.param(
            {"LocalNodeState": "locked", "Error": "swarm is encrypted"}, ("locked", "encrypted"), id="a locked swarm"
        ),
    ],
)
def test_an_engine_that_is_no_manager(
    redis_of_mine: str, tmp_path: Path, starter: str, swarm: dict[str, Any], words: tuple[str, ...]
) -> None:
    with EngineStub(tmp_path / "engine", swarm):
        host = f"unix://{tmp_path / 'engine'}"
        done = start(starter, tmp_path, JAAS_REDIS_URL=redis_of_mine, DOCKER_HOST=host)
    check_one_sentence(done, *words, host)


@pytest.mark.parametrize("starter", STARTERS)
def test_an_engine_that_is_not_there(redis_of_mine: str, tmp_path: Path, starter: str) -> None:
    done = start(starter, tmp_path, JAAS_REDIS_URL=redis_of_mine, DOCKER_HOST=f"unix://{tmp_path}/no-such-socket")
    check_one_sentence(done, "engine does not answer")


@pytest.mark.parametrize("starter", STARTERS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAAS_MAX_IN_FLIGHT", "abc"),
        ("JAAS_MAX_IN_FLIGHT", "0"),
        ("JAAS_LEASE", "soon"),
        ("JAAS_LOG_LIMIT", "-1"),
        ("JAAS_PREFIX", "a b"),
        ("JAAS_QUEUE", "a,b"),
        ("JAAS_TAKE_DEFAULT_QUEUE", "perhaps"),
    ],
)
def test_a_setting_that_is_not_valid(tmp_path: Path, starter: str, name: str, value: str) -> None:
    done = start(starter, tmp_path, DOCKER_HOST=f"unix://{tmp_path}/no-such-socket", **{name: value})
    check_one_sentence(done, name)
