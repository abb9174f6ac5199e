"""What `jaas doctor` says about records that cannot be read, and about messages that nobody takes."""

from __future__ import annotations

from typing import Any

import click.testing
import pytest

from jaas_submit import Client, JobSpec
from jaas_submit.cli.main import cli
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.doctor.ledger_checks import ledger_checks
from jaas_submit.ledger import Ledger
from jaas_submit.messaging.queues import lists_of
from jaas_submit.model.bounds import shown
from jaas_submit.model.states import JobState

SPEC = JobSpec(image="a")
LONG = 3600.0


@pytest.fixture
def client(redis_url: str, prefix: str) -> Client:
    return Client(redis_url, queue=prefix, prefix=prefix)


def look(client: Client, second_look: float = 0.0) -> dict[str, Check]:
    return {check.name: check for check in ledger_checks(client, second_look)}


def test_a_ledger_in_order(client: Client) -> None:
    client.ledger.submission.create("a", SPEC, client.queue)
    client.ledger.maintenance.renew_lease("w", LONG, {"queue": client.queue, "room": 1})
    assert look(client) == {"records": Check("records", Verdict.OK, "1 looked at, all can be read")}


def test_records_that_cannot_be_read_are_named(client: Client) -> None:
    ledger = client.ledger
    for number in range(5):
        ledger.submission.create(f"j{number}", SPEC, client.queue)
        ledger.client.hset(f"{ledger.prefix}:job:j{number}", "created_at", "x")
    check = look(client)["records"]
    assert check.verdict is Verdict.WARN
    assert check.detail.startswith("5 of 5 looked at cannot be read (job j")
    assert check.detail.endswith("; ...)")
    assert check.detail.count("created_at: x is no time") == 3
    assert f"{ledger.prefix}:job:ID" in check.fix


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("batch:b", "batch b: its key holds another kind of value"),
        ("info:w", "worker w: it says of itself"),
        ("cluster", "cluster: it does not describe the nodes"),
    ],
)
def test_whatever_cannot_be_read_is_named(client: Client, name: str, detail: str) -> None:
    ledger = client.ledger
    ledger.batches.create("b")
    ledger.maintenance.renew_lease("w", LONG, {})
    key = f"{ledger.prefix}:{name}"
    ledger.client.delete(key)
    ledger.client.set(key, "{")
    assert detail in look(client)["records"].detail


@pytest.mark.parametrize("name", ["unowned", "holders", "state:QUEUED", "newest_received", "batches", "jobs"])
def test_a_key_of_the_ledger_s_own_that_holds_something_else(client: Client, name: str) -> None:
    ledger = client.ledger
    ledger.client.set(f"{ledger.prefix}:{name}", 1)
    check = look(client)["records"]
    assert (check.verdict, check.detail) == (Verdict.FAIL, f"{ledger.prefix}:{name} holds a string")
    assert "redis-cli DEL" in check.fix
    ledger.health.look_through()
    ledger.client.delete(f"{ledger.prefix}:{name}")


@pytest.mark.parametrize("name", ["unacked", "unacked_index"])
def test_a_key_of_the_messages_that_holds_something_else(client: Client, name: str) -> None:
    key = f"{client.ledger.prefix}:{name}"
    client.ledger.client.rpush(key, "x")
    check = look(client)["records"]
    assert (check.verdict, check.detail) == (Verdict.FAIL, f"{key} holds a list")


@pytest.mark.parametrize("number", range(4))
def test_a_list_of_the_queue_that_is_none(client: Client, number: int) -> None:
    waiting(client, 300.0, room=7)
    client.ledger.client.delete(client.queue)
    key = lists_of(client.queue)[number]
    client.ledger.client.hset(key, "a", "b")
    check = look(client)["records"]
    assert (check.verdict, check.detail) == (Verdict.FAIL, f"{shown(key, 400)} holds a hash")
    assert check.detail.isprintable()


def test_a_list_of_the_queue_that_is_none_leaves_the_others_counted(client: Client) -> None:
    waiting(client, 300.0, room=7)
    client.ledger.client.hset(lists_of(client.queue)[2], "a", "b")
    checks = look(client)
    assert checks["records"].verdict is Verdict.FAIL
    assert checks["claims"].detail.startswith(f"{client.queue}: 1 message waits")


# -- claims -----------------------------------------------------------------------------------------------------------


def waiting(client: Client, claimed: float | None, **info: Any) -> None:
    """Have a message wait, beside a worker that says this of itself; the newest claim is so many seconds old."""
    client.ledger.maintenance.renew_lease("w", LONG, {"queue": client.queue, **info})
    client.app.send_task("jaas.run", queue=client.queue)
    if claimed is not None:
        client.ledger.client.hset(f"{client.ledger.prefix}:last_claim", client.queue, client.ledger.now() - claimed)


@pytest.mark.parametrize(("claimed", "words"), [(300.0, "claimed for 5 min"), (None, "claimed ever")])
def test_messages_that_nobody_takes(client: Client, claimed: float | None, words: str) -> None:
    waiting(client, claimed, room=7)
    check = look(client)["claims"]
    assert check.verdict is Verdict.WARN
    assert check.detail.startswith(f"{client.queue}: 1 message waits, workers have room for 7, and nothing was {words}")
    assert f"redis-cli LINDEX {client.queue} -1" in check.fix


@pytest.mark.parametrize(
    ("claimed", "info"),
    [
        (5.0, {"room": 7}),
        (300.0, {"room": 0}),
        (300.0, {"room": 7, "engine_unavailable": "no leader"}),
        (300.0, {"room": 7, "queue": "another"}),
        (300.0, {"max_in_flight": 10, "in_flight": 10}),
        (300.0, {}),
    ],
)
def test_messages_that_wait_for_a_reason(client: Client, claimed: float, info: dict[str, Any]) -> None:
    waiting(client, claimed, **info)
    assert list(look(client)) == ["records"]


def test_of_an_older_worker_its_limit_tells_the_room(client: Client) -> None:
    waiting(client, 300.0, max_in_flight=10, in_flight=4)
    assert "room for 6" in look(client)["claims"].detail


def test_without_messages_nothing_has_to_be_claimed(client: Client) -> None:
    client.ledger.maintenance.renew_lease("w", LONG, {"queue": client.queue, "room": 7})
    assert list(look(client)) == ["records"]


def test_a_message_that_is_taken_meanwhile_is_none_that_waits(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(client, 300.0, room=7)
    monkeypatch.setattr("time.sleep", lambda _: client.ledger.client.delete(client.queue))
    assert list(look(client, 2.0)) == ["records"]


def test_a_claim_is_noted_for_its_queue(ledger: Ledger) -> None:
    before = ledger.now()
    for queue in ("q", "r"):
        ledger.submission.create(queue, SPEC, queue)
    assert ledger.health.last_claim("q") == 0.0
    ledger.maintenance.renew_lease("w", LONG, {})
    ledger.ownership.claim("q", "w")
    assert ledger.queries.get("q").state is JobState.LAUNCHING
    assert before <= ledger.health.last_claim("q") <= ledger.now()
    assert ledger.health.last_claim("r") == 0.0


@pytest.mark.parametrize("value", [None, "x"])
def test_a_note_that_cannot_be_read_is_none(ledger: Ledger, value: str | None) -> None:
    key = f"{ledger.prefix}:last_claim"
    if value is None:
        ledger.client.set(key, 1)
    else:
        ledger.client.hset(key, "q", value)
    ledger.submission.create("a", SPEC, "q")
    ledger.maintenance.renew_lease("w", LONG, {})
    assert ledger.health.last_claim("q") == 0.0
    ledger.ownership.claim("a", "w")


def test_the_doctor_says_it(redis_url: str, prefix: str, ledger: Ledger) -> None:
    ledger.submission.create("bad", SPEC, "q")
    ledger.client.delete(f"{prefix}:job:bad")
    ledger.client.set(f"{prefix}:job:bad", 1)
    words = ["--redis", redis_url, "--prefix", prefix, "doctor", "--no-engine"]
    result = click.testing.CliRunner().invoke(cli, words)
    assert "1 of 1 looked at cannot be read (job bad: its key holds another kind of value)" in result.stdout
    assert "Traceback" not in result.output
