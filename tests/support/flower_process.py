"""A Flower process with the configuration that stack.yml uses."""

from __future__ import annotations

import base64
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.ports import free_port
from tests.support.worker import clean_env

__all__ = ["Flower", "basic"]

CONFIG = Path(__file__).parents[2] / "docker" / "flowerconfig.py"


def basic(login: str) -> str:
    """Return the value of the header Authorization for a user and a password."""
    return "Basic " + base64.b64encode(login.encode()).decode()


class Flower:
    """A Flower process.

    Args:
        redis_url: where its events come from.
        folder: for its log and its database.
        more: variables of its environment.
    """

    def __init__(self, redis_url: str, folder: Path, **more: str) -> None:
        self.port = free_port()
        self.log = folder / "flower.log"
        environment = clean_env(JAAS_REDIS_URL=redis_url, FLOWER_DB=str(folder / "flower.db"), **more)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "jaas_submit.dashboard.flower_app", "flower"),
                    *(f"--conf={CONFIG}", f"--port={self.port}", "--address=127.0.0.1"),
                ],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def url(self, path: str, login: str = "") -> str:
        return f"http://{login + '@' if login else ''}127.0.0.1:{self.port}{path}"

    def get(self, path: str, login: str = "") -> tuple[int, str]:
        request = urllib.request.Request(self.url(path))
        if login:
            request.add_header("Authorization", basic(login))
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    def up(self, path: str = "/healthcheck") -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get(path)[0] in {200, 401}
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
