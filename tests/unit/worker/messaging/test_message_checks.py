"""Which messages from elsewhere are accepted, and which are refused unread."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.model import bounds
from jaas_submit.model.bounds import MAX_VALUES, read_json
from jaas_worker.messaging.message_checks import (
    DEFECT,
    MAX_BODY_BYTES,
    MAX_ENTRY_BYTES,
    broadcast_message,
    queue_message,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_is_json_is_read_as_it_is(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value


@given(st.text(alphabet='[]{}"\\,:1a \n'))
def test_what_is_read_is_what_python_reads(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match="not JSON"):
            read_json(text.encode())
    else:
        assert read_json(text.encode()) == expected


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[" * 65 + b"]" * 65, "nested"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested"),
        (b'[{"a":' * 33 + b"1" + b"}]" * 33, "nested"),
        (b"[" * 1_000_000, "nested"),
        (b'["' + b'\\"' * 900_000, "not JSON"),
        (b"[]" * 900_000, "not JSON"),
        (b"[[]]" * 400_000, "more than 262,144 values"),
        (b" " * (MAX_ENTRY_BYTES + 1), "2,097,153 bytes"),
        (b"1e999", "too large"),
        (b"-1e999", "too large"),
        (b"-Infinity", "no numbers"),
        (b"NaN", "no numbers"),
        (b"9" * 1001, "too long"),
        (b"1." + b"9" * 1001, "too large"),
        (b"\xef\xbb\xbf[]", "not JSON"),
        ("[]".encode("utf-16"), "not JSON"),
    ],
)
def test_what_is_not_read(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        read_json(data)
    assert len(str(caught.value)) < 250


def test_brackets_in_a_text_are_no_depth() -> None:
    value = ["[" * 100, '"[' * 100, "\\[" * 100, [[["{" * 100]]]]
    assert read_json(json.dumps(value).encode()) == value
    assert read_json(b"[" * 64 + b"]" * 64) is not None


@pytest.mark.parametrize("value", ["1e999999999", "-1e-999999999", "x", None, [], "Infinity"])
def test_a_decimal_that_would_fill_the_memory_is_not_read(value: Any) -> None:
    with pytest.raises(ValueError, match="decimal"):
        read_json(json.dumps([{"__type__": "decimal", "__value__": value}]).encode(), typed=True)


def test_a_decimal_is_read() -> None:
    assert read_json(b'{"__type__": "decimal", "__value__": "1.5"}', typed=True)


TINY: dict[str, bytes] = {
    "lists": b"[],",
    "objects": b"{},",
    "lists with space in them": b"[ ],",
    "lists that are not empty": b"[0],",
    "objects that are not empty": b'{"":0},',
    "nested": b"[" * 60 + b"]" * 60 + b",",
    "texts": b'"",',
    "texts of two": b'"ab",',
    "texts of commas": b'",",',
    "texts of another script": '"\U0001f600b",'.encode(),
    "numbers": b"1,",
    "fractions": b"1.5,",
}


@pytest.mark.parametrize("name", TINY)
def test_a_body_of_tiny_values_is_refused_and_fills_no_memory(name: str) -> None:
    data = b"[" + TINY[name] * ((MAX_BODY_BYTES - 2) // len(TINY[name]))
    data = data[:-1] + b"]"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="holds more than 262,144 values"):
            read_json(data, MAX_BODY_BYTES, typed=True)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", TINY)
def test_as_many_values_as_are_allowed_fill_no_memory(name: str) -> None:
    count = MAX_VALUES // {"nested": 60}.get(name, 2 if "not empty" in name else 1)
    data = b"[" + (TINY[name] * count)[:-1] + b"]"
    tracemalloc.start()
    try:
        assert len(read_json(data, MAX_BODY_BYTES, typed=True)) == count
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_commas_in_a_text_are_no_values() -> None:
    value = ["," * MAX_VALUES, '",' * MAX_VALUES, {"[" * MAX_VALUES: []}]
    assert read_json(json.dumps(value).encode()) == value


@given(JSON)
def test_values_are_counted_as_in_a_description(value: Any) -> None:
    data = json.dumps([value]).encode()
    count = 0
    left = [value]
    while left:
        count += 1
        one = left.pop()
        left.extend(one if isinstance(one, list) else one.values() if isinstance(one, dict) else ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "MAX_VALUES", count)
        assert read_json(data) == [value]
        patch.setattr(bounds, "MAX_VALUES", count - 1)
        with pytest.raises(ValueError, match="holds more than"):
            read_json(data)


def entry(**changed: Any) -> dict[str, Any]:
    made = {"body": "[]", "content-type": "application/json", "content-encoding": "utf-8"}
    return {**made, "headers": {"id": "i", "task": "t"}, "properties": {}, **changed}


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()), st.integers(0, 5))
def test_whatever_is_on_a_queue_becomes_a_message(item: bytes, ended: int) -> None:
    message = queue_message(item, "q", "tag", ended)

    assert message["properties"]["delivery_tag"] == "tag"
    assert message["properties"]["delivery_info"] == {"exchange": "", "routing_key": "q"}
    assert isinstance(message["body"], str)


@pytest.mark.parametrize(
    ("ended", "reason", "task_id"),
    [
        (0, None, "i"),
        (1, None, "i"),
        (2, "refused: it ended 2 workers", "i"),
        (3, "refused: it ended 3 workers", None),  # to look for its id may be what did it
    ],
)
def test_a_message_that_has_ended_workers(ended: int, reason: str | None, task_id: str | None) -> None:
    headers = queue_message(json.dumps(entry()).encode(), "q", "tag", ended)["headers"]

    assert (headers.get(DEFECT), headers.get("id")) == (reason, task_id)


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ('"priority": 1e999', "a number is too large"),
        ('"priority": NaN', "NaN and Infinity are no numbers of JSON"),
        (f'"priority": {"1" * 5000}', "a number is too long"),
        ('"a\nb": 1', "Invalid control character"),
        (f'"priority": {"[" * 100}', "nested more than 64 deep"),
    ],
)
def test_an_entry_that_cannot_be_read_keeps_an_id_that_can(where: str, wrong: str) -> None:
    text = json.dumps(entry()).replace('"properties": {}', f'"properties": {{{where}}}')

    headers = queue_message(text.encode(), "q", "tag")["headers"]

    assert (headers.get("id"), headers.get("task")) == ("i", "t")
    assert wrong in headers[DEFECT]


def test_an_id_elsewhere_in_an_entry_that_is_read_is_not_its_own() -> None:
    made = entry(headers={}, properties={"delivery_info": {"id": "another's"}}, body=5)

    assert set(queue_message(json.dumps(made).encode(), "q", "tag")["headers"]) == {DEFECT}


def test_what_is_left_of_a_large_entry_has_its_id() -> None:
    part = b'jaas-too-large 3000000\naaa", "headers": {"id": "my-id", "root_id": "no", "task": "jaas.run"}}'

    headers = queue_message(part, "q", "tag")["headers"]

    assert (headers["id"], headers["task"]) == ("my-id", "jaas.run")
    assert "3,000,000 bytes" in headers[DEFECT]


@pytest.mark.parametrize(
    ("name", "compress"), [("gzip", zlib.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)]
)
def test_what_is_compressed_is_opened_within_bounds(name: str, compress: Any) -> None:
    def opened(body: bytes) -> dict[str, Any]:
        made = entry(properties={"body_encoding": "base64"}, headers={"compression": name})
        return queue_message(json.dumps({**made, "body": packed(compress(body))}).encode(), "q", "tag")

    good, large = opened(b'["x"]'), opened(b" " * (4 * 1024 * 1024 + 1))

    assert (good["headers"], good["body"]) == ({}, packed(b'["x"]'))
    assert "more than 4,194,304 bytes" in large["headers"][DEFECT]


def packed(body: bytes) -> str:
    return base64.b64encode(body).decode()


def test_a_header_of_ours_from_elsewhere_does_not_count() -> None:
    assert DEFECT not in queue_message(json.dumps(entry(headers={DEFECT: "x"})).encode(), "q", "tag")["headers"]


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_broadcast_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        broadcast_message(data)
