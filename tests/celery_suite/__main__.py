"""Runs Celery's own integration tests with our worker and with Celery's thread pool, and compares test by test.

scripts/celery-suite calls it. What is in not_applicable.txt is run with neither.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.celery_suite.plugin import not_applicable
from tests.support.redis_server import OwnRedis

__all__ = ["differences", "main", "outcomes"]

_ROOT: Final = Path(__file__).parents[2]
_POOLS: Final = ("jaas", "threads")

_OPTIONS: Final = (
    *("-c", os.devnull, "-p", "no:cacheprovider", "-p", "celery.contrib.pytest", "-p", "tests.celery_suite.plugin"),
    *("-q", "-o", "python_classes=test_*", "--continue-on-collection-errors"),
)


def outcomes(text: str) -> dict[str, str]:
    """Return the outcome of each test by its name; a test that failed in any of its phases has failed.

    Args:
        text: what the plugin has written, a line for each phase: outcome, tab, name.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        outcome, name = line.split("\t", 1)
        if found.get(name) != "failed":
            found[name] = outcome
    return found


def differences(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Return a line for each test whose outcome is not the same with both.

    Args:
        ours: outcomes with our worker.
        theirs: outcomes with Celery's thread pool.
    """
    pairs = [(name, ours.get(name, "not run"), theirs.get(name, "not run")) for name in sorted(ours | theirs)]
    return [f"{name}: {one} with jaas, {other} with Celery's threads" for name, one, other in pairs if one != other]


def _start(pool: str, checkout: Path, folder: Path, words: Sequence[str]) -> tuple[OwnRedis, subprocess.Popen[bytes]]:
    # A copy of the tests alone: beside them in a checkout is a package "celery", which is not the one to be tested.
    shutil.copytree(checkout / "t", folder / "t")
    redis = OwnRedis(folder / "redis").start()
    more = {
        "TEST_BROKER": redis.url,
        "TEST_BACKEND": redis.url,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis.port),
        "JAAS_SUITE": pool,
        "JAAS_SUITE_RESULTS": str(folder / "results"),
        "PYTHONPATH": f"{folder}:{_ROOT}",
    }
    (folder / "results").touch()
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "pytest", "--rootdir", str(folder), *_OPTIONS, *(words or ("t/integration",))]
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **more}, stdout=log, stderr=subprocess.STDOUT
        )
    return redis, process


def main(arguments: Sequence[str]) -> int:
    """Run both and print what differs.

    Args:
        arguments: the checkout, and what pytest is to run of it; nothing means all of t/integration.

    Returns:
        The exit code: 0 where nothing differs.
    """
    checkout, *words = arguments
    base = Path(tempfile.mkdtemp(prefix="celery-suite-"))
    print(f"logs are in {base}", flush=True)
    running = {}
    try:
        for pool in _POOLS:
            (base / pool).mkdir()
            running[pool] = _start(pool, Path(checkout), base / pool, words)
        for _, process in running.values():
            process.wait()
    finally:
        for redis, process in running.values():
            process.kill()
            redis.kill()
    ours, theirs = (outcomes((base / pool / "results").read_text()) for pool in _POOLS)
    found = differences(ours, theirs)
    for line in found:
        print(line)
    failed = sum(outcome == "failed" for outcome in theirs.values())
    print(
        f"{len(ours | theirs)} tests, of which {failed} fail with Celery's threads; "
        f"{len(not_applicable())} do not apply; {len(found)} differ"
    )
    return 1 if found or not ours else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
