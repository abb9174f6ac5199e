"""Which queue and prefix are meant: the argument, the environment, the default, in this order."""

from __future__ import annotations

from typing import Any

import pytest

from jaas_submit import Client, JobSpec, SpecError, job
from jaas_submit.connection.names import chosen_prefix, chosen_queue


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAAS_QUEUE", "JAAS_PREFIX"):
        monkeypatch.delenv(name, raising=False)


def test_without_anything_the_default_counts() -> None:
    assert (chosen_queue(), chosen_prefix()) == ("jaas", "jaas")


def test_the_environment_counts_and_an_argument_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAAS_QUEUE", "crawl")
    monkeypatch.setenv("JAAS_PREFIX", "team")
    client, named = Client("redis://127.0.0.1:1"), Client("redis://127.0.0.1:1", queue="q", prefix="p")
    assert (client.queue, client.ledger.prefix) == ("crawl", "team")
    assert (named.queue, named.ledger.prefix) == ("q", "p")
    assert job(JobSpec(image="alpine")).options["queue"] == "crawl"
    assert job(JobSpec(image="alpine"), queue="q").options["queue"] == "q"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAAS_QUEUE", "")
    monkeypatch.setenv("JAAS_PREFIX", "")
    assert (chosen_queue(), chosen_prefix()) == ("jaas", "jaas")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prefix": "a b"}, "prefix: 'a b' is no name of a prefix; it has 1 to 32 ASCII letters, digits"),
        ({"prefix": ""}, "prefix: '' is no name"),
        ({"prefix": "a:b"}, "prefix: 'a:b' is no name"),
        ({"prefix": "a" * 33}, "is no name of a prefix"),
        ({"prefix": 5}, "prefix: a number is no name"),
        ({"queue": ""}, "queue: '' is no name of a queue; it has 1 to 128 characters without blanks and commas"),
        ({"queue": "a,b"}, "queue: 'a,b' is no name"),
        ({"queue": "a b"}, "queue: 'a b' is no name"),
        ({"queue": "a\n"}, "is no name of a queue"),
    ],
)
def test_a_name_that_is_none_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        Client("redis://127.0.0.1:1", **given)
    assert said in str(refused.value)
    assert refused.value.field in given


def test_so_is_one_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAAS_PREFIX", "a b")
    with pytest.raises(SpecError, match="JAAS_PREFIX"):
        Client("redis://127.0.0.1:1")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"state": "done"}, "state: 'done' is none; there are waiting, queued, "),
        ({"cause": "bad"}, "cause: 'bad' is none; there are exit, "),
        ({"state": 5}, "state: a number is none"),
    ],
)
def test_history_refuses_a_state_or_cause_that_is_none(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Client("redis://127.0.0.1:1").history(**given)
