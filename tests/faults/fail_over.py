"""How long a Celery worker takes to receive messages again after Sentinel has made another server the master.

    python -m tests.faults.fail_over

prints a table: Celery's and kombu's own transport beside that of jaas, for a master that is killed and for one that is
silent with its connections open (a machine that is suspended or cut off). The Sentinels take two seconds of silence for
a death. No swarm is needed. tests/integration/test_sentinel.py has the assertions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import celery
import kombu.exceptions
import redis

from jaas_submit.connection import connect
from jaas_submit.connection.url import sentinel_address
from jaas_worker.messaging import transport_settings
from tests.support.sentinel_group import MASTER, Group
from tests.support.wait import eventually
from tests.support.worker import clean_env

_URL = "FAIL_OVER_URL"
_OURS = "FAIL_OVER_OURS"
_PATIENCE = 120.0
_SEEN = "fail-over:seen:"


def make_app(url: str, *, ours: bool) -> celery.Celery:
    """Return an app as people have one, or one with jaas' transport."""
    address = sentinel_address(url)
    assert address is not None
    options = {"master_name": MASTER, "sentinel_kwargs": {"password": address.sentinel_password}}
    made = celery.Celery("fail_over", broker=";".join(address.celery_urls()), set_as_current=False)
    made.conf.update(broker_transport_options=options, broker_connection_max_retries=None, task_ignore_result=True)
    if ours:
        made.conf.update(transport_settings.settings(url, {"socket_connect_timeout": 5}, "fail-over", "celery"))

    @made.task(name="seen")
    def seen(number: int) -> None:
        with connect(url) as client:
            client.set(f"{_SEEN}{number}", 1)

    return made


def send(url: str, number: int) -> None:
    """Send a message as a foreign producer does, until it is sent: some Sentinel may still name the silent master."""
    with make_app(url, ours=False) as app:
        app.conf.broker_transport_options = {**app.conf.broker_transport_options, "socket_timeout": 2}

        def sent() -> bool:
            try:
                app.send_task("seen", (number,), retry=False)
            except (kombu.exceptions.OperationalError, redis.RedisError, OSError):
                return False
            return True

        eventually(sent, 60, "the message to be sent")


def measure(folder: Path, *, ours: bool, kill: bool) -> tuple[float, float | None]:
    """Return the seconds from the fault to the promotion, and from there to the first message received, if any was."""
    group = Group(folder)
    environment = clean_env(**{_URL: group.url, _OURS: "1" if ours else ""})
    words = [sys.executable, "-m", "celery", "-A", "tests.faults.fail_over", "worker", "-P", "solo", "--without-mingle"]
    with (folder / "log").open("ab") as log:
        worker = subprocess.Popen([*words, "--loglevel=INFO"], env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        with connect(group.url, socket_timeout=2) as client:

            def received(number: int) -> bool:
                return bool(client.exists(f"{_SEEN}{number}"))

            send(group.url, 1)
            eventually(lambda: received(1), 60, (folder / "log").read_text)
            old, new = group.master, group.replica
            start = time.monotonic()
            if kill:
                old.kill()
            else:
                old.freeze()
            eventually(lambda: group.promoted(new), 60)
            promoted = time.monotonic()
            send(group.url, 2)
            try:
                eventually(lambda: received(2), _PATIENCE)
            except AssertionError:
                return promoted - start, None
            return promoted - start, time.monotonic() - promoted
    finally:
        worker.kill()
        worker.wait()
        group.close()


def main() -> None:
    """Print the table."""
    print("| master | transport | promoted after | received again after another |\n| --- | --- | --- | --- |")
    for kill in (True, False):
        for ours in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                promoted, received = measure(Path(folder), ours=ours, kill=kill)
            names = ("killed" if kill else "silent", "jaas" if ours else "kombu's own")
            last = f"not within {_PATIENCE:.0f} s" if received is None else f"{received:.1f} s"
            print("| {} | {} | {:.1f} s | {} |".format(*names, promoted, last), flush=True)


def __getattr__(name: str) -> Any:
    """Make ``app`` for the worker."""
    if name in {"app", "celery_app"} and _URL in os.environ:
        return make_app(os.environ[_URL], ours=bool(os.environ[_OURS]))
    raise AttributeError(name)


if __name__ == "__main__":
    main()
