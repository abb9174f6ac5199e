"""A Celery app of somebody who uses jobs without any code of ours, with a worker of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.wait import eventually
from tests.support.worker import clean_env, exceptions_in

__all__ = ["TheirWorker", "run_their_code"]

_APP = """
import os
import sys

import celery


class NotInstalled:
    # The virtual environment has our packages; their machine has not.
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jaas_submit", "jaas_worker"):
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, NotInstalled())

{app}


@app.task(name="theirs.add")
def add(x, y):
    return x + y


@app.task(name="theirs.outputs")
def outputs(results):
    return [result["logs"]["stdout"] for result in results]


@app.task(name="theirs.exit_code")
def exit_code(result):
    return result["exit_code"]


@app.task(name="theirs.failed")
def failed(*args):
    return "called"
"""


_OWN_APP = 'app = celery.Celery("theirs", broker=os.environ["THEIR_REDIS"], backend=os.environ["THEIR_REDIS"])'


def _their_env(redis_url: str, folder: Path) -> dict[str, str]:
    return clean_env(THEIR_REDIS=redis_url, PYTHONPATH=str(folder))


class TheirWorker:
    """A plain Celery worker with one process, started and ready.

    Args:
        redis_url: broker and results.
        folder: for its code and its log.
        queue: what it consumes.
        shop: code of a module "shop" that has the app; empty where it has one of its own.
    """

    def __init__(self, redis_url: str, folder: Path, queue: str, shop: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "shop.py").write_text(shop)
        (folder / "theirs.py").write_text(_APP.replace("{app}", "from shop import app" if shop else _OWN_APP))
        self._log = folder / "theirs.log"
        command = [sys.executable, "-m", "celery", "-A", "theirs", "worker", "--pool=prefork", "--concurrency=1"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--loglevel=INFO", "--without-mingle", "-n", "theirs@%h", "-Q", queue],
                cwd=folder,
                env=_their_env(redis_url, folder),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(lambda: " ready." in self.log, 60, lambda: f"their worker to be ready:\n{self.log}")

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    def stop(self) -> None:
        """End it; its log must hold no exception."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert not exceptions_in(self.log), self.log


def run_their_code(redis_url: str, folder: Path, code: str) -> str:
    """Run a piece of Python that has ``app``, and not our packages; return what it prints."""
    (folder / "theirs.py").write_text(_APP.replace("{app}", _OWN_APP))
    done = subprocess.run(
        [sys.executable, "-c", f"from theirs import app\n{code}"],
        cwd=folder,
        env={**os.environ, **_their_env(redis_url, folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
