"""What a producer's program may hand over, and what it is told about the rest."""

from __future__ import annotations

import enum
import pathlib
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from jaas_submit import Client, JobSpec, SpecError, job
from jaas_submit.model.validation import plain_input


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    YES = "yes"


@dataclass
class Point:
    x: int
    when: date | None = None


class Model(pydantic.BaseModel):
    price: Decimal = Decimal("1.50")


ID = uuid.UUID(int=1)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (None, None),
        (True, True),
        ([1, 2.5, "a"], [1, 2.5, "a"]),
        ((1, (2,)), [1, [2]]),
        (Decimal("1.10"), "1.10"),
        (date(2026, 11, 30), "2026-11-30"),
        (datetime(2026, 11, 30, 8, tzinfo=UTC), "2026-11-30T08:00:00+00:00"),
        (time(8, 30), "08:30:00"),
        (timedelta(minutes=1.5), 90.0),
        (ID, str(ID)),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (Colour.RED, "red"),
        (Word.YES, "yes"),
        (Point(1, date(2026, 11, 30)), {"x": 1, "when": "2026-11-30"}),
        ({"points": [Point(1)], "model": Model()}, {"points": [{"x": 1, "when": None}], "model": {"price": "1.50"}}),
    ],
)
def test_what_is_taken(given: object, plain: object) -> None:
    assert plain_input(given) == plain
    assert JobSpec(image="a", input=given).input == plain


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({1, 2}, "input: a set has no order; pass sorted(...) or list(...) of it"),
        ({"a": [b"x"]}, "input.a.0: bytes are no JSON value; pass base64.b64encode(...).decode(), or a URL"),
        (object(), "input: a object is no JSON value; pass numbers, texts, lists and objects, or a data class of them"),
        ({"a": {1: 2}}, "input.a.1: a name must be a text, not a number; pass str(name)"),
        (float("nan"), "input: has a number that JSON does not know (NaN or Infinity); use null"),
    ],
)
def test_what_is_not_is_named_with_the_remedy(given: object, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        JobSpec(image="a", input=given)
    assert str(refused.value) == said


def test_an_input_that_is_too_large_names_the_store() -> None:
    with pytest.raises(SpecError, match="JAAS_STORE_URL"):
        JobSpec(image="a", input="x" * 600_000)


def test_a_duration_may_be_a_timedelta() -> None:
    assert JobSpec(image="a", run_timeout=timedelta(hours=1)).run_timeout == 3600


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda client: client.submit("alpine"), r"not valid JSON.*for an image write JobSpec\(image="),
        (lambda client: client.submit(None), "the description must be a JSON object .*, not nothing"),
        (lambda client: client.submit({"imag": "alpine"}), "imag"),
        (lambda client: client.submit({"image": "a"}, key=5), "key: must be a text, not a number; pass str"),
        (lambda client: client.submit({"image": "a"}, key=" "), "key: must not be empty; leave it out"),
        (lambda client: client.submit({"image": "a"}, input={1}), "input: a set has no order"),
        (lambda client: client.map({"image": "a"}, [], key=5), "key: must be a text, not a number"),
        (lambda client: client.map("alpine", []), "for an image write JobSpec"),
        (lambda client: client.submit_many(["alpine"]), "for an image write JobSpec"),
        (lambda client: client.history(labels="x"), "labels: must be names and values in texts, such as"),
        (lambda client: client.active(labels={"a": 1}), "labels: must be names and values in texts"),
    ],
)
def test_a_wrong_argument_is_named_before_redis_is_asked(call: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        call(Client("redis://127.0.0.1:1"))


def test_a_mapping_is_a_description() -> None:
    assert job({"image": "alpine"}).kwargs == {"spec": {"version": 1, "image": "alpine"}}
