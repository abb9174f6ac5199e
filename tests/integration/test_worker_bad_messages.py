"""Whatever somebody puts on the queue: a failed job with a clear reason, a worker that lives, nothing created."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import re
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import docker
import pytest

from jaas_submit import Cause, Client, JobRecord, JobState
from jaas_submit.model.wire_names import job_id_of
from tests.support.jobs import LONG, celery_result, ended, run, shell
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation, WorkerProcess
from tests.unit.model.test_job_spec import BAD

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("nothing_created", "living_worker")]

MARKER = "hunter2-marker"
"""A value that somebody might have meant as a secret: it is to be seen nowhere."""

GOOD_SPEC: dict[str, Any] = {"image": "jaas-test:latest", "command": ["true"], "env": {"TOKEN": MARKER}}
BAD_SPEC: dict[str, Any] = {"image": "", "env": {"TOKEN": MARKER}}

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "application/x-gzip": zlib.compress,
    "application/x-bz2": bz2.compress,
    "application/x-lzma": lzma.compress,
}
"""Celery's names of what it compresses with by itself."""

Message = dict[str, Any]


def message(body: Any = None, *, task_id: Any = None, **headers: Any) -> Message:
    """Return a message as Celery makes it; ``body`` is encoded as JSON unless it is bytes already."""
    task_id = str(uuid.uuid4()) if task_id is None else task_id
    if body is None:
        body = [[], {"spec": BAD_SPEC}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {
        "body": base64.b64encode(raw).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "jaas.run", "id": task_id, "root_id": task_id, "retries": 0, **headers},
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(uuid.uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "QUEUE"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def changed(path: str, value: Any) -> Message:
    """Return a message of a bad job with something changed in it; a value of ``...`` takes the thing away."""
    made = message()
    *way, last = path.split(".")
    place = made
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return made


def args_are(args: Any, kwargs: Any = None) -> Message:
    return message([args, {} if kwargs is None else kwargs, {}])


def put(client: Client, entry: Message | bytes) -> None:
    raw = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
    client.ledger.client.lpush(client.queue, raw.replace(b"QUEUE", client.queue.encode()))


@pytest.fixture(scope="module")
def celery_events(client: Client) -> Iterator[list[dict[str, Any]]]:
    """All events that Celery sends while this module runs."""
    seen: list[dict[str, Any]] = []
    with client.app.connection_for_read() as connection:
        receiver = client.app.events.Receiver(connection, handlers={"*": seen.append})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False), daemon=True)
        thread.start()
        yield seen
        receiver.should_stop = True
        thread.join(10)


@pytest.fixture(scope="module")
def nothing_created(client: Client, docker_api: docker.APIClient) -> Iterator[None]:
    """No service of a refused job was created, not even for a moment."""
    since = time.time()
    yield
    events = docker_api.events(
        since=int(since), until=int(time.time()) + 1, filters={"type": "service", "event": "create"}, decode=True
    )
    created = {event["Actor"]["Attributes"]["name"] for event in events}
    refused = [record for record in client.history(limit=1000) if record.last and record.last.cause is Cause.REFUSED]
    assert len(refused) > 50
    assert not [record.id for record in refused if f"jaas-{record.id}-1" in created]


@pytest.fixture
def living_worker(worker: WorkerProcess, celery_events: object) -> Iterator[WorkerProcess]:
    """The worker lives, before and after; started again after a test that it did not survive."""
    if not worker.alive:
        worker.start()
    pid = worker.pid
    yield worker
    assert worker.alive, f"the worker has ended:\n{worker.log[-3000:]}"
    assert worker.pid == pid


def check_refused(client: Client, worker: WorkerProcess, record: JobRecord, reason: str) -> None:
    """The record tells of a refused job, and so does Celery."""
    assert (record.state, record.reported, record.holder) == (JobState.FAILED, True, "")
    assert record.last is not None
    assert (record.last.cause, record.last.number, record.last.exit_code) == (Cause.REFUSED, 0, None)
    assert re.search(reason, record.last.reason), record.last.reason
    assert len(record.last.reason) < 500
    assert MARKER not in record.last.reason + record.detail
    told = celery_result(record.task_id, app=client.app)
    if record.task_id != record.id or worker.log.count(f"[{record.id}] received"):
        assert told.state == "FAILURE"
        assert record.last.reason in str(told.result)


def refused_as(client: Client, worker: WorkerProcess, task_id: str) -> JobRecord:
    """Return the record of a message with this task id, when it has ended."""
    job_id = job_id_of(task_id)

    def known() -> bool:
        assert worker.alive, f"the worker has ended:\n{worker.log[-3000:]}"
        return bool(client.ledger.queries.find([job_id]))

    eventually(known, 20, lambda: f"a record of {task_id!r}:\n{worker.log[-3000:]}")
    ended(client, job_id)
    return client.ledger.queries.get(job_id)


def refused_without_id(client: Client, worker: WorkerProcess, entry: Message | bytes) -> JobRecord:
    """Put an entry on the queue that has no task id; return the record of it."""
    before = {record.id for record in client.history(limit=10_000)}
    put(client, entry)

    def new() -> list[str]:
        assert worker.alive, f"the worker has ended:\n{worker.log[-3000:]}"
        return [record.id for record in client.history(limit=10) if record.id not in before]

    (job_id,) = eventually(new, 20, lambda: f"a record of it:\n{worker.log[-3000:]}")
    ended(client, job_id)
    return client.ledger.queries.get(job_id)


# -- entries that are no message --------------------------------------------------------------------------------------

NO_MESSAGE: dict[str, tuple[Callable[[], Message | bytes], str]] = {
    "garbage": (f"garbage {MARKER}".encode, "not JSON"),
    "nothing": (lambda: b"", "not JSON"),
    "not UTF-8": (lambda: b"\xff\xfe" + MARKER.encode(), "not JSON"),
    "half a message": (lambda: json.dumps(message()).encode()[:-20], "not JSON"),
    "deep": (lambda: b"[" * 100_000, "nested more than 64 deep"),
    "deep object": (lambda: b'{"body":' * 100_000, "nested more than 64 deep"),
    "too large": (
        lambda: b"[" + b"1," * 1_500_000 + b"1]",
        "has 3,000,003 bytes, of which at most 2,097,152 are taken",
    ),
    "a raw line's end": (lambda: json.dumps(message()).encode().replace(b'"lang"', b'"la\nng"'), "not JSON"),
    "an infinite exchange": (
        lambda: json.dumps(message()).encode().replace(b'"exchange": ""', b'"exchange": 1e999'),
        "a number is too large",
    ),
    "no number as an exchange": (lambda: changed("properties.delivery_info.exchange", float("nan")), "no numbers"),
    "NUL": (lambda: b"\0" * 10, "not JSON"),
    "a huge number": (lambda: b"9" * 100_000, "not JSON"),
    "number": (lambda: b"5", "no message of Celery"),
    "text": (lambda: json.dumps(MARKER).encode(), "no message of Celery"),
    "null": (lambda: b"null", "no message of Celery"),
    "true": (lambda: b"true", "no message of Celery"),
    "list": (lambda: b"[]", "no message of Celery"),
    "list of one": (lambda: json.dumps([MARKER]).encode(), "no message of Celery"),
    "empty object": (lambda: b"{}", "no message of Celery"),
    "some object": (lambda: json.dumps({"image": MARKER}).encode(), "no message of Celery"),
    "a description": (lambda: json.dumps(GOOD_SPEC).encode(), "no message of Celery"),
    "no properties": (lambda: changed("properties", ...), "no message of Celery"),
    "properties null": (lambda: changed("properties", None), "no message of Celery"),
    "properties a list": (lambda: changed("properties", []), "no message of Celery"),
    "properties a text": (lambda: changed("properties", MARKER), "no message of Celery"),
    "no headers": (lambda: changed("headers", ...), "no task name"),
    "headers null": (lambda: changed("headers", None), "no task name"),
    "headers a list": (lambda: changed("headers", []), "no task name"),
    "headers a text": (lambda: changed("headers", MARKER), "headers are no object"),
    "headers empty": (lambda: changed("headers", {}), "no task name"),
    "no task": (lambda: changed("headers.task", ...), "no task name"),
    "no id": (lambda: changed("headers.id", ...), "its id is not a text"),
    "id null": (lambda: changed("headers.id", None), "its id is not a text"),
    "id empty": (lambda: changed("headers.id", ""), "its id is not a text"),
    "id a number": (lambda: changed("headers.id", 5), "its id is not a text"),
    "id a list": (lambda: changed("headers.id", [MARKER]), "its id is not a text"),
    "id an object": (lambda: changed("headers.id", {"a": MARKER}), "its id is not a text"),
    "body encoding unknown": (lambda: changed("properties.body_encoding", MARKER), "no message of Celery"),
    "body encoding a list": (lambda: changed("properties.body_encoding", [MARKER]), "no message of Celery"),
    "no body": (lambda: changed("body", ...), "no message of Celery"),
}


@pytest.mark.parametrize("name", NO_MESSAGE)
def test_an_entry_that_is_no_message_is_a_failed_job(client: Client, living_worker: WorkerProcess, name: str) -> None:
    make, reason = NO_MESSAGE[name]
    record = refused_without_id(client, living_worker, make())
    check_refused(client, living_worker, record, reason)


def bomb(name: str) -> Message:
    return message(COMPRESSED[name](b" " * 100_000_000), compression=name)


# -- messages with an id ----------------------------------------------------------------------------------------------

BAD_MESSAGE: dict[str, tuple[Callable[[], Message], str]] = {
    # body
    "base64 damage": (lambda: changed("body", "%%%" + MARKER), "no base64"),
    "base64 cut off": (lambda: changed("body", message()["body"][:-3]), "no base64"),
    "body null": (lambda: changed("body", None), ""),
    "body a number": (lambda: changed("body", 5), ""),
    "body an object": (lambda: changed("body", {"a": MARKER}), ""),
    "body empty": (lambda: message(b""), ""),
    "body garbage": (lambda: message(MARKER.encode()), "decode"),
    "body not UTF-8": (lambda: message(b"\xff\xfe" + MARKER.encode()), "decode"),
    "body a number inside": (lambda: message(b"5"), ""),
    "body null inside": (lambda: message(b"null"), ""),
    "body a text inside": (lambda: message(json.dumps(MARKER).encode()), ""),
    "body an empty object": (lambda: message({}), ""),
    "body the description itself": (lambda: message(GOOD_SPEC), ""),
    "body an empty list": (lambda: message([]), ""),
    "body of two": (lambda: message([[], {"spec": GOOD_SPEC}]), ""),
    "body of four": (lambda: message([[], {"spec": GOOD_SPEC}, {}, {}]), ""),
    "body of nulls": (lambda: message([None, None, None]), ""),
    "body deep": (lambda: message(b"[" * 100_000), "decode"),
    "body 65 deep": (lambda: message(b"[" * 65 + b"]" * 65), "nested more than 64 deep"),
    "body no number": (
        lambda: args_are([], {"spec": {**GOOD_SPEC, "input": float("nan")}}),
        "input.*JSON does not know",
    ),
    "body a decimal that fills the memory": (
        lambda: args_are([], {"spec": {**GOOD_SPEC, "attempts": {"__type__": "decimal", "__value__": "1e999999999"}}}),
        "decode.*a decimal number is too large",
    ),
    # how it is delivered: what it says itself does not count
    "no delivery tag": (lambda: changed("properties.delivery_tag", ...), "image"),
    "delivery tag null": (lambda: changed("properties.delivery_tag", None), "image"),
    "delivery tag a list": (lambda: changed("properties.delivery_tag", [MARKER]), "image"),
    "delivery tag an object": (lambda: changed("properties.delivery_tag", {}), "image"),
    "delivery tag half a character": (lambda: changed("properties.delivery_tag", "\ud800"), "image"),
    "delivery info a text": (lambda: changed("properties.delivery_info", MARKER), "image"),
    "routing key half a character": (lambda: changed("properties.delivery_info.routing_key", "\ud800"), "image"),
    "routing key a list": (lambda: changed("properties.delivery_info.routing_key", [MARKER]), "image"),
    "routing key somebody's": (lambda: changed("properties.delivery_info.routing_key", "celery"), "image"),
    # how it is encoded
    "pickle": (lambda: changed("content-type", "application/x-python-serialize"), "pickle|content"),
    "yaml": (lambda: changed("content-type", "application/x-yaml"), "content"),
    "plain text": (lambda: changed("content-type", "text/plain"), ""),
    "unknown content type": (lambda: changed("content-type", "application/x-unknown"), "application/x-unknown"),
    "content type a list": (lambda: changed("content-type", []), ""),
    "unknown content encoding": (lambda: changed("content-encoding", MARKER), ""),
    "content encoding a list": (lambda: changed("content-encoding", [MARKER]), ""),
    "unknown compression": (lambda: changed("headers.compression", MARKER), ""),
    "compressed, but not": (lambda: changed("headers.compression", "application/x-gzip"), ""),
    "compression a list": (lambda: changed("headers.compression", [MARKER]), "compression is not known"),
    **{
        f"{name} that becomes 100 MB": (
            partial(bomb, name),
            "decompressed it has more than 4,194,304 bytes",
        )
        for name in COMPRESSED
    },
    "compressed, cut off": (lambda: message(zlib.compress(b"[]")[:-1], compression="gzip"), "cut off"),
    # task
    "unknown task": (lambda: changed("headers.task", "somebody.elses"), "'somebody.elses' is not a task of jaas"),
    "task a list": (lambda: changed("headers.task", [MARKER]), "task"),
    "task null": (lambda: changed("headers.task", None), "task"),
    "task a number": (lambda: changed("headers.task", 5), "task"),
    # arguments
    "no spec": (lambda: args_are([]), "spec: is required"),
    "spec null": (lambda: args_are([], {"spec": None}), "must be a JSON object"),
    "spec a text": (lambda: args_are([], {"spec": MARKER}), "not valid JSON"),
    "spec a list": (lambda: args_are([], {"spec": [MARKER]}), "must be a JSON object"),
    "spec a number": (lambda: args_are([], {"spec": 5}), "must be a JSON object"),
    "spec empty": (lambda: args_are([], {"spec": {}}), "image: is required"),
    "spec as an argument": (lambda: args_are([GOOD_SPEC]), "spec: is required"),
    "two arguments": (lambda: args_are([1, 2], {"spec": GOOD_SPEC}), "no positional arguments"),
    "unknown argument": (lambda: args_are([], {"spec": GOOD_SPEC, "extra": MARKER}), "extra: is no argument"),
    "arguments an object": (lambda: args_are({"a": MARKER}, {"spec": GOOD_SPEC}), ""),
    "arguments a number": (lambda: args_are(5, {"spec": GOOD_SPEC}), ""),
    "keywords a list": (lambda: args_are([], [MARKER]), ""),
    "keywords a text": (lambda: args_are([], MARKER), ""),
    "unknown field": (lambda: args_are([], {"spec": {**GOOD_SPEC, "imag": MARKER}}), "imag: is no field"),
    "wrong version": (lambda: args_are([], {"spec": {**GOOD_SPEC, "version": 2}}), "version: this jaas reads"),
    "1 MB of environment": (lambda: args_are([], {"spec": {**GOOD_SPEC, "env": {"A": MARKER * 75_000}}}), "^env: "),
    "10 MB of environment": (
        lambda: args_are([], {"spec": {**GOOD_SPEC, "env": {"A": MARKER * 750_000}}}),
        "of which at most 2,097,152 are taken",
    ),
    "environment without =": (lambda: args_are([], {"spec": {**GOOD_SPEC, "env": [MARKER]}}), "needs a '='"),
    # what Celery wants in the headers
    "ETA no time": (lambda: changed("headers.eta", MARKER), "its eta is not a time"),
    "ETA a number": (lambda: changed("headers.eta", 5), "its eta is not a time"),
    "ETA a list": (lambda: changed("headers.eta", [MARKER]), "its eta is not a time"),
    "ETA beyond the calendar": (
        lambda: changed("headers.eta", "9999-12-31T23:59:59.999999-14:00"),
        "its eta is not a time",
    ),
    "expiry no time": (lambda: changed("headers.expires", MARKER), "expires"),
    "expiry a list": (lambda: changed("headers.expires", [MARKER]), "expires"),
    "time limit a text": (lambda: changed("headers.timelimit", MARKER), ""),
    "time limit a number": (lambda: changed("headers.timelimit", 5), ""),
    "retries a text": (lambda: changed("headers.retries", MARKER), ""),
    "time limits without end": (lambda: changed("headers.timelimit", [10**20, None]), "timelimit"),
    "retries beyond counting": (lambda: changed("headers.retries", 10**900), "retries"),
    "shadow half a character": (lambda: changed("headers.shadow", "\ud800"), "shadow"),
    "shadow of 100 KB": (lambda: changed("headers.shadow", "x" * 100_000), "shadow"),
    "our own header": (lambda: changed("headers.jaas-defect", "\ud800" * 1000), "image"),
    "shadow a list": (lambda: changed("headers.shadow", [MARKER]), ""),
    "root id a list": (lambda: changed("headers.root_id", [MARKER]), ""),
    "parent id an object": (lambda: changed("headers.parent_id", {}), ""),
    "group a list": (lambda: changed("headers.group", [MARKER]), ""),
    "stamps a text": (lambda: changed("headers.stamps", MARKER), ""),
    "stamped headers a number": (lambda: changed("headers.stamped_headers", 5), ""),
    "args repr a list": (lambda: changed("headers.argsrepr", [MARKER]), ""),
    "kwargs repr with a value": (lambda: changed("headers.kwargsrepr", f"{{'spec': {{'env': '{MARKER}'}}}}"), ""),
    "priority a text": (lambda: changed("properties.priority", MARKER), ""),
    "reply to a list": (lambda: changed("properties.reply_to", [MARKER]), ""),
    "correlation id a list": (lambda: changed("properties.correlation_id", [MARKER]), ""),
    # what is to happen afterwards
    "callbacks a text": (lambda: message([[], {"spec": BAD_SPEC}, {"callbacks": MARKER}]), ""),
    "errbacks a text": (lambda: message([[], {"spec": BAD_SPEC}, {"errbacks": MARKER}]), ""),
    "errbacks numbers": (lambda: message([[], {"spec": BAD_SPEC}, {"errbacks": [5]}]), ""),
    "errback without a task": (lambda: message([[], {"spec": BAD_SPEC}, {"errbacks": [{}]}]), ""),
    "chord a number": (lambda: message([[], {"spec": BAD_SPEC}, {"chord": 5}]), ""),
    "chord an object": (lambda: message([[], {"spec": BAD_SPEC}, {"chord": {"a": MARKER}}]), ""),
    "chain a text": (lambda: message([[], {"spec": BAD_SPEC}, {"chain": MARKER}]), ""),
    "afterwards null": (lambda: message([[], {"spec": BAD_SPEC}, None]), ""),
    "afterwards a list": (lambda: message([[], {"spec": BAD_SPEC}, [MARKER]]), ""),
    "afterwards a text": (lambda: message([[], {"spec": BAD_SPEC}, MARKER]), ""),
}


@pytest.mark.parametrize("name", BAD_MESSAGE)
def test_a_bad_message_is_a_failed_job_under_its_id(client: Client, living_worker: WorkerProcess, name: str) -> None:
    make, reason = BAD_MESSAGE[name]
    entry = make()
    put(client, entry)
    record = refused_as(client, living_worker, entry["headers"]["id"])
    check_refused(client, living_worker, record, reason)


def test_every_bad_description_is_a_failed_job_that_names_the_field(
    client: Client, living_worker: WorkerProcess
) -> None:
    entries = [
        (args_are([], {"spec": {"image": "a", **fields}}), field, words)
        for fields, field, words in BAD
        if repr(json.loads(json.dumps(fields))) == repr(fields)  # some cannot be written as JSON
    ]
    assert len(entries) > 100
    for entry, _, _ in entries:
        put(client, entry)
    for entry, field, words in entries:
        record = refused_as(client, living_worker, entry["headers"]["id"])
        assert record.last is not None
        assert words in record.last.reason or field in record.last.reason
        check_refused(client, living_worker, record, "")


# -- odd, but good ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task_id",
    ["my task/1", "x" * 300, "Grüße ☃", "../../etc/passwd", "a:b:c", "UPPER", "-", "line\nend", "{{.Service.ID}}", "5"],
)
def test_a_job_with_an_odd_task_id_runs_once_under_that_id(
    client: Client, living_worker: WorkerProcess, witness: Witness, task_id: str
) -> None:
    spec = witness.spec("echo hello").to_wire()
    put(client, message([[], {"spec": spec}, {}], task_id=task_id))
    told = celery_result(task_id, app=client.app).get(timeout=LONG)
    assert told["logs"]["stdout"] == "hello\n"
    assert told["job_id"] == job_id_of(task_id)
    assert ended(client, job_id_of(task_id)).ok
    assert client.ledger.queries.get(job_id_of(task_id)).task_id == task_id
    assert len(witness.starts()) == 1


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_message_runs(client: Client, living_worker: WorkerProcess, witness: Witness, name: str) -> None:
    body = json.dumps([[], {"spec": witness.spec().to_wire()}, {}]).encode()
    task_id = str(uuid.uuid4())
    put(client, message(COMPRESSED[name](body), task_id=task_id, compression=name))
    assert celery_result(task_id, app=client.app).get(timeout=LONG)["exit_code"] == 0
    assert len(witness.starts(task_id)) == 1


def test_a_message_of_celerys_first_protocol_runs(
    client: Client, living_worker: WorkerProcess, witness: Witness
) -> None:
    task_id = str(uuid.uuid4())
    entry = message({"task": "jaas.run", "id": task_id, "args": [], "kwargs": {"spec": witness.spec().to_wire()}})
    entry["headers"] = {}
    put(client, entry)
    assert celery_result(task_id, app=client.app).get(timeout=LONG)["exit_code"] == 0
    assert len(witness.starts(task_id)) == 1


def test_a_bad_message_under_the_id_of_a_good_job_does_not_touch_it(
    client: Client, living_worker: WorkerProcess, witness: Witness
) -> None:
    handle = client.submit(witness.spec(witness.held()))
    eventually(witness.starts, LONG)
    put(client, message(MARKER.encode(), task_id=handle.id))
    put(client, message(task_id=handle.id))
    eventually(lambda: "an invalid message has the id" in living_worker.log, 20)
    witness.open()
    assert ended(client, handle.id).ok
    assert celery_result(handle.id, app=client.app).state == "SUCCESS"
    assert len(witness.starts()) == 1


# The last one: after all of the above.
def test_the_worker_works_and_has_told_nobody_what_was_in_the_messages(
    jaas: Installation, client: Client, living_worker: WorkerProcess, celery_events: list[dict[str, Any]]
) -> None:
    result = run(client, shell("echo still here"))
    assert result.stdout == "still here\n"
    eventually(lambda: any(event["type"] == "task-succeeded" for event in celery_events), 20)
    assert MARKER not in living_worker.log
    assert MARKER not in json.dumps(celery_events)
    for record in client.history(limit=10_000):
        assert MARKER not in record.detail + (record.last.reason if record.last else "")
    for key in jaas.ledger.client.scan_iter("celery-task-meta-*"):
        assert MARKER not in str(jaas.ledger.client.get(key)), key
