"""Celery's default queue is everybody's: what is not ours is put back, and somebody else gets it."""

from __future__ import annotations

from pathlib import Path

import celery
import pytest

from jaas_submit import Client
from tests.support.jobs import LONG, ended, run, shell
from tests.support.theirs import TheirWorker
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]


def test_tasks_of_others_are_put_back_and_their_worker_gets_all_of_them(
    jaas: Installation, foreign: celery.Celery, client: Client, worker: WorkerProcess, tmp_path: Path
) -> None:
    job = foreign.send_task("jaas.run", kwargs={"spec": shell("echo before").to_wire()})
    assert job.get(timeout=LONG)["logs"]["stdout"] == "before\n"
    sent = [foreign.send_task("theirs.add", args=(n, n)) for n in range(30)]
    eventually(lambda: "this worker stops consuming it" in worker.log, LONG, "the worker to find somebody else's task")
    assert run(client, shell("echo by our own queue")).ok
    eventually(lambda: jaas.ledger.client.llen("celery") == 30, LONG, "all of their tasks to be back in the queue")
    theirs = TheirWorker(jaas.redis_url, tmp_path / "theirs", "celery")
    try:
        assert [result.get(timeout=LONG) for result in sent] == [2 * n for n in range(30)]
    finally:
        theirs.stop()
    assert worker.alive
    assert run(client, shell("true")).ok


def test_a_worker_told_to_leaves_the_default_queue_alone_from_the_start(
    jaas: Installation, foreign: celery.Celery, client: Client, worker: WorkerProcess
) -> None:
    worker.stop()
    shy = jaas.worker(take_default_queue="false").start()
    sent = foreign.send_task("jaas.run", kwargs={"spec": shell("true").to_wire()})
    assert ended(client, client.submit(shell("true")).id).ok
    assert jaas.ledger.client.llen("celery") == 1
    shy.stop()
    worker.start()
    assert sent.get(timeout=LONG)["state"] == "SUCCEEDED"
