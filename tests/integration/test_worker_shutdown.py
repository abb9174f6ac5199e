"""A worker that is told to stop while Redis does not answer, and the log of one that is told while all is well."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

from jaas_submit import Client, JobState
from tests.support.jobs import LONG, shell, until
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.worker import Installation


def test_a_shutdown_does_not_wait_for_a_redis_that_hangs(
    own_redis: Callable[..., OwnRedis], engine_host: str, tmp_path: Path
) -> None:
    server = own_redis()
    home = Installation(server.url, engine_host, f"t-{uuid.uuid4().hex[:12]}", tmp_path, lease="2s")
    with Client(home.redis_url, queue=home.queue, prefix=home.prefix) as client:
        try:
            first = home.worker(shutdown_timeout="2s").start()
            handle = client.submit(shell("trap exit TERM; sleep 300 & wait"))
            until(client, handle.id, JobState.RUNNING)
            server.freeze()
            try:
                os.kill(first.pid, signal.SIGTERM)
                eventually(lambda: not first.alive, LONG, lambda: first.log[-3000:])
            finally:
                server.thaw()
            home.worker().start()
            eventually(
                lambda: client.ledger.queries.get(handle.id).holder in _holders(home), LONG, "the job to be taken over"
            )
            assert client.ledger.queries.get(handle.id).state is JobState.RUNNING
            handle.cancel()
            assert handle.wait(LONG, check=False).state is JobState.CANCELLED
        finally:
            home.close()


def _holders(home: Installation) -> set[str]:
    return {str(worker["holder"]) for worker in home.ledger.queries.workers()}


def test_the_log_is_json_with_the_job_on_each_line_about_it(jaas: Installation, client: Client) -> None:
    worker = jaas.worker(log_format="json").start()
    handle = client.submit(shell("exit 3", env={"TOKEN": "swordfish"}))
    handle.wait(LONG, check=False)
    eventually(lambda: "job.ended" in worker.log, LONG, lambda: worker.log)
    assert worker.stop() == 0
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    about = [line for line in lines if handle.id in json.dumps(line)]
    actions = [line.get("action") for line in about]
    assert [action for action in actions if action != "job.running"] == [
        None,
        "audit.submit",
        "job.launched",
        "job.ended",
    ]
    assert {line["job_id"] for line in about} == {handle.id}
    assert {line["attempt"] for line in about if "action" in line} == {1}
    ended = about[-1]
    assert (ended["state"], ended["cause"], ended["exit_code"]) == ("FAILED", "exit", 3)
    assert lines[-1]["action"] == "worker.handed_over"
    assert "swordfish" not in worker.log
