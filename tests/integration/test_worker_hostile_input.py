"""What arrives by other ways than a job's message, or again and again: no worker ends of it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import Any

import celery
import pytest
import redis

from jaas_submit import Cause, Client, JobState
from jaas_submit.model.wire_names import job_id_of
from tests.support.jobs import LONG, ended, run, shell
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis]

WORKER = {"lease": "2s"}

EXCEPTIONS_ALLOWED = (
    # Celery shows where a command that it cannot understand has led.
    "AttributeError",
    "TypeError",
    "MatcherNotInstalled",
    "UnicodeEncodeError",
    "KeyError: 'no-such'",
)


def command(content: Any, **changed: Any) -> bytes:
    """Return what is published for a command of Celery's remote control."""
    entry = {
        "body": json.dumps(content),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {"delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}, "delivery_tag": "t"},
    }
    return json.dumps({**entry, **changed}).encode()


def typed(kind: str, value: str) -> bytes:
    return command({"method": "ping", "arguments": {"x": {"__type__": kind, "__value__": value}}})


COMMANDS: dict[str, bytes] = {
    "deep": b"[" * 100_000,
    "deep in its body": command({}, body="[" * 100_000),
    "not UTF-8": b"\xff",
    "too large": b'"' + b"x" * 3_000_000 + b'"',
    "no message": b"5",
    "a decimal that is none": typed("decimal", "x"),
    "a decimal that fills the memory": typed("decimal", "1e999999999"),
    "a clock beyond counting": command({"method": "ping"}, headers={"clock": 10**4000}),
    "a clock that is a text": command({"method": "ping"}, headers={"clock": "x"}),
    "pickle": command({"method": "ping"}, **{"content-type": "application/x-python-serialize"}),
    "compressed, but not": command({"method": "ping"}, headers={"compression": "gzip"}),
    "a list": command([1]),
    "a method that is a list": command({"method": ["ping"]}),
    "no such method": command({"method": "no-such"}),
    "arguments that are none": command({"method": "ping", "arguments": [1]}),
    "a pattern that takes for ever": command(
        {"method": "ping", "pattern": "(" + ".*" * 30 + ")*x\x00", "matcher": "pcre"}
    ),
    "a reply to nobody": command({"method": "ping", "reply_to": 5}),
    "a reply to half a character": command(
        {"method": "ping", "reply_to": {"exchange": "\ud800", "routing_key": "\ud800"}, "ticket": "\ud800"}
    ),
    "ids that are none": command({"method": "revoke", "arguments": {"task_id": [1, None, {}, "\ud800"]}}),
}


@pytest.mark.parametrize("database", [0, 7])
def test_no_command_ends_a_worker(jaas: Installation, client: Client, worker: WorkerProcess, database: int) -> None:
    with redis.Redis.from_url(jaas.redis_url, db=database) as publisher:
        # A worker says that it is ready a moment before it hears commands.
        eventually(partial(publisher.publish, "/0.celery.pidbox", b"[]"), LONG, "the worker to hear commands")
        for data in COMMANDS.values():
            assert publisher.publish("/0.celery.pidbox", data) > 0
        publisher.publish(b"/0.celery.pidbox/\xff", b"[" * 10)
    answers = client.app.control.ping(timeout=5) or []
    assert [list(answer.values()) for answer in answers] == [[{"ok": "pong"}]], worker.log[-3000:]
    assert run(client, shell("echo still here")).stdout == "still here\n"
    assert worker.alive


def test_no_notice_ends_a_worker(jaas: Installation, client: Client, worker: WorkerProcess, witness: Witness) -> None:
    held = client.submit(witness.spec(witness.held()))
    eventually(witness.starts, LONG)
    for channel in map(client.ledger.channel, ("exits", "cancels", "available", "watch", "files")):
        eventually(partial(client.ledger.client.publish, channel, b""), LONG, f"the worker to hear {channel}")
        for data in (b"[" * 100_000, b"\xff\xfe", b"files", b"\x00", b"9" * 10_000, b'"' + b"x" * 3_000_000 + b'"'):
            assert client.ledger.client.publish(channel, data) > 0
    held.cancel("enough")
    assert ended(client, held.id).state is JobState.CANCELLED
    assert run(client, shell("echo still here")).stdout == "still here\n"
    assert worker.alive


def test_a_message_that_ends_each_worker_is_a_failed_job_at_its_third_delivery(
    jaas: Installation, client: Client, foreign: celery.Celery, worker: WorkerProcess
) -> None:
    worker.stop()
    sent = foreign.send_task("jaas.run", kwargs={"spec": shell("true").to_wire()}, queue=jaas.queue)
    for _ in range(2):
        doomed = jaas.worker(failpoint="intake.before").launch()
        doomed.wait()
        let_time_pass(client)
    worker.start()

    job_id = job_id_of(sent.id)
    eventually(lambda: client.ledger.queries.find([job_id]), LONG, lambda: f"a record:\n{worker.log[-3000:]}")
    ended(client, job_id)
    record = client.ledger.queries.get(job_id)
    assert record.last is not None

    assert (record.state, record.last.cause) == (JobState.FAILED, Cause.REFUSED)
    assert record.last.reason == "refused: it ended 2 workers"
    with pytest.raises(Exception, match="it ended 2 workers"):
        sent.get(timeout=LONG)
    assert run(client, shell("echo still here")).stdout == "still here\n"


def let_time_pass(client: Client) -> None:
    """Have the notes of what was received be a day old, and no lease but this one's left."""
    server, prefix = client.ledger.client, client.ledger.prefix
    notes: dict[Any, Any] = server.hgetall(f"{prefix}:unacked")
    for tag, note in notes.items():
        server.hset(f"{prefix}:unacked", tag, b"1.000000\n" + note.split(b"\n", 1)[1])
        server.zadd(f"{prefix}:unacked_index", {tag: 1})
    server.delete(f"{prefix}:holders")


BROKEN = """
import jaas_worker.app
from jaas_worker.messaging.redis_transport import Poller

def broken(*_):
    raise TypeError("broken on purpose")

Poller.on_poll_start = broken
jaas_worker.app.worker_main(["--loglevel=INFO"])
"""


def test_a_worker_that_an_error_ends_does_not_end_with_code_0(jaas: Installation) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN],
        env=jaas.environment(),
        cwd=jaas.folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "Unrecoverable error: TypeError('broken on purpose')" in done.stdout + done.stderr
    assert done.returncode == 1
