"""A pytest plugin for Celery's own integration tests: which pool their worker has, and which of them do not apply.

JAAS_SUITE=jaas gives their worker our pool, transport and result backend, over an engine in memory; JAAS_SUITE=threads
gives it Celery's own thread pool. The consumer is Celery's in both: ours refuses tasks that are not ours.
JAAS_SUITE_RESULTS names the file that the outcome of each test is written to.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from celery.app.trace import setup_worker_optimizations
from celery.contrib.testing import worker as testing_worker
from celery.utils.nodenames import anon_nodename
from celery.worker.consumer import Consumer as CeleryConsumer

from jaas_worker.components import Parts
from jaas_worker.messaging import transport_settings
from jaas_worker.messaging.consumer import Consumer
from jaas_worker.settings import Settings
from tests.support.fake_swarm import FakeSwarm

__all__ = ["SuiteConsumer", "not_applicable"]

_start_worker = testing_worker.start_worker
_TIMEOUT_S = 60
_THREADS = 4
"""Tasks that run at once in either pool."""


class SuiteConsumer(Consumer):
    """Our consumer, which takes the tasks of their suite as Celery's takes them."""

    create_task_handler = CeleryConsumer.create_task_handler
    # Any: the names of the arguments differ.
    on_unknown_task: Any = CeleryConsumer.on_unknown_task
    on_unknown_message: Any = CeleryConsumer.on_unknown_message
    on_invalid_task: Any = CeleryConsumer.on_invalid_task
    on_decode_error: Any = CeleryConsumer.on_decode_error


def not_applicable() -> dict[str, str]:
    """Return the tests that are not run, each with the reason; not_applicable.txt has their list."""
    lines = (Path(__file__).parent / "not_applicable.txt").read_text(encoding="utf-8").splitlines()
    return {name: why for name, _, why in (line.partition(" ") for line in lines) if name and name != "#"}


def _prepare(app: Any) -> dict[str, Any]:
    """Make a worker's app out of theirs; return what else the worker is started with."""
    url = os.environ["TEST_BROKER"]
    settings = Settings(redis_url=url, prefix=f"suite-{uuid.uuid4().hex[:8]}", queue="celery", task_threads=_THREADS)
    app.jaas = Parts(settings, FakeSwarm())
    app.loader.override_backends = {"redis": "jaas_worker.messaging.result_backend:Results"}
    app.conf.update(**transport_settings.settings(url, {}, settings.prefix, settings.queue))
    return {"pool": "jaas_worker.messaging.pool:TaskPool", "consumer_cls": SuiteConsumer}


def _start(app: Any, **options: Any) -> Any:
    more = _prepare(app) if os.environ["JAAS_SUITE"] == "jaas" else {"pool": "threads"}
    hostname = anon_nodename()
    # A worker's process does this at its start, and so does a process of a pool; in their suite nobody else would.
    setup_worker_optimizations(app, hostname)
    return _start_worker(app, **{**options, "hostname": hostname, "concurrency": _THREADS, **more})


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "flaky: repeated by Celery's CI")
    testing_worker.start_worker = _start  # type: ignore[assignment] # it passes on all options


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = not_applicable()
    left_out = [
        item
        for item in items
        # What has nothing to do with the suite's worker says nothing about ours.
        if "celery_session_worker" not in getattr(item, "fixturenames", ())
        or item.nodeid.split("[")[0] in reasons
        or item.nodeid in reasons
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:  # theirs is five minutes
        item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "timeout"]
        item.add_marker(pytest.mark.timeout(_TIMEOUT_S, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report: Any = yield
    if report.when == "call" or report.outcome != "passed":
        with Path(os.environ["JAAS_SUITE_RESULTS"]).open("a") as file:
            file.write(f"{report.outcome}\t{item.nodeid}\n")
    return report
