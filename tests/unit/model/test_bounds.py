"""What others send is bounded before anything follows it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit.batch_model.templates import fill
from jaas_submit.connection import url as redis_url
from jaas_submit.connection.url import sentinel_address
from jaas_submit.errors import JaasError, SpecError
from jaas_submit.model import bounds, fields, job_spec, retry_policy
from jaas_submit.model.bounds import MAX_DEPTH, MAX_VALUES, bounded, check_plain, shown, whole
from jaas_submit.model.cluster import Cluster
from jaas_submit.model.fields import parse_duration, parse_size
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import job_id_of
from jaas_submit.placement import placement

# -- texts ------------------------------------------------------------------------------------------------------------

LONG = 16_000


def spec_with(**changes: Any) -> Callable[[str], object]:
    def made(text: str) -> object:
        def put(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: put(part) for name, part in value.items()}
            if isinstance(value, list):
                return [put(part) for part in value]
            return text if value is ... else value

        return JobSpec.parse({"image": "a", **put(changes)})

    return made


def env_name(text: str) -> object:
    return JobSpec.parse({"image": "a", "env": {text: "x"}})


PARSERS: dict[str, tuple[Callable[[str], object], str, ModuleType | None, str]] = {
    "duration": (parse_duration, "1" * LONG, bounds, "_DURATION_PART"),
    "duration, units": (parse_duration, "1h" * LONG, bounds, "_DURATION_PART"),
    "size": (parse_size, "1" * LONG + "x", bounds, "_SIZE"),
    "stop_grace": (spec_with(stop_grace=...), "1" * LONG, bounds, "_DURATION_PART"),
    "memory": (spec_with(limits={"memory": ...}), "1" * LONG + " " * LONG, bounds, "_SIZE"),
    "backoff": (spec_with(retry={"backoff": {"delay": ...}}), "1." * LONG, bounds, "_DURATION_PART"),
    "exit codes": (spec_with(retry={"exit_codes": ...}), " " * LONG + "-", retry_policy, "_RANGE"),
    "exit code rule": (
        spec_with(retry={"rules": [{"action": "fail", "exit_codes": [...]}]}),
        "1" + " " * LONG,
        retry_policy,
        "_RANGE",
    ),
    "image": (spec_with(image=...), "a-" * LONG, job_spec, "_IMAGE"),
    "constraint": (spec_with(constraints=[...]), "node.labels." + "a" * LONG, fields, "_CONSTRAINT"),
    "environment name": (env_name, "a" * LONG, job_spec, "_ENV_NAME"),
    "Redis URL": (sentinel_address, "redis://" + "a" * LONG, redis_url, "re"),
    "name": (spec_with(name=...), "a" * LONG, None, ""),
    "label": (spec_with(labels={"a": ...}), "a" * LONG, None, ""),
    "user": (spec_with(user=...), "a" * LONG, None, ""),
    "workdir": (spec_with(workdir=...), "/" * LONG, None, ""),
    "stop_signal": (spec_with(stop_signal=...), "SIG" + "A" * LONG, None, ""),
    "registry": (spec_with(registry=...), "a" * LONG, None, ""),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_text_that_is_too_long_is_refused_before_a_pattern_sees_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, text, module, pattern = PARSERS[name]
    seen = Mock()
    if module is not None:
        monkeypatch.setattr(module, pattern, seen)
    with pytest.raises(ValueError, match=r"^.{1,200}$"):  # one sentence, which does not quote the text
        parse(text)
    assert not seen.mock_calls


@pytest.mark.parametrize("place", ["²", "1" * 5000, "٣"])
def test_a_place_in_a_list_that_is_no_number_is_an_error_of_the_description(place: str) -> None:
    with pytest.raises(SpecError, match="input 0 has no"):
        fill(JobSpec(image="a", command=("{item." + place + "}",)), ["x"], 0, "b")


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_every_task_id_has_a_job_id(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,51}", job_id_of(text))


def test_the_helpers() -> None:
    assert bounded("abc", 3) == "abc"
    assert whole("012") == 12
    assert shown("a\n\ud800" + "b" * 99) == "a\\n\\ud800" + "b" * 54 + "..."
    assert shown(ValueError("a" * 99), 10) == "aaaaaaa..."
    check_plain([[{"a": (1, 2.5, None, "x")}]] * 9)
    itself: list[Any] = []
    itself.append(itself)
    for wrong in (itself, [0] * (MAX_VALUES + 1), 10**5000, {"a": [10**5000]}):
        with pytest.raises(ValueError, match=r"deeper|more than|too large"):
            check_plain(wrong)


def test_constraints_are_read_as_before() -> None:
    cluster = Cluster.model_validate({"at": 0, "nodes": [{"id": "n", "hostname": "h", "labels": {"a": "b c"}}]})
    for text, fits in (("node.labels.a == b c  ", True), ("  node.labels.a!=b c", False), ("node.hostname==x", False)):
        assert placement.placement(JobSpec(image="a", constraints=(text,)), cluster)[0].fits is fits


# -- the whole description --------------------------------------------------------------------------------------------


def deep(levels: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"a": value}
    return value


HOSTILE: dict[str, Any] = {
    "deep list": {"image": "a", "input": deep(100_000, "list")},
    "deep object": {"image": "a", "input": deep(MAX_DEPTH + 1, "object")},
    "deep where a text is meant": {"image": deep(5000, "list")},
    "deep environment": {"image": "a", "env": deep(5000, "object")},
    "huge number": {"image": "a", "input": {"x": [10**5000]}},
    "huge duration": {"image": "a", "stop_grace": 10**5000},
    "huge version": {"image": "a", "version": 10**5000},
    "large number where cores are meant": {"image": "a", "limits": {"cpus": 10**400}},
    "NaN": {"image": "a", "input": float("nan")},
    "infinity": {"image": "a", "input": [float("inf")]},
    "infinite time": {"image": "a", "run_timeout": float("inf")},
    "surrogate": {"image": "a\ud800"},
    "surrogate in a word": {"image": "a", "command": ["\ud800"]},
    "surrogate in a name": {"image": "a", "\ud800\n": 1},
    "surrogate in an input's name": {"image": "a", "input": {"\ud800": 1}},
    "surrogate in a variable": {"image": "a", "env": {"A": "\ud800"}},
    "surrogate in a label": {"image": "a", "labels": {"\ud800": "\udfff"}},
    "control characters": {"image": "a", "a\nb\x00": 1},
    "long field name": {"image": "a", "x" * 1_000_000: 1},
    "many fields": {f"f{number}": 1 for number in range(200_000)},
    "many values": {"image": "a", "input": [0] * 300_000},
    "many bad labels": {"image": "a", "labels": {f"-{number}": 1 for number in range(300_000)}},
    "in itself": None,
    "text: deep": "[" * 100_000,
    "text: deep object": '{"image": ' * 5000,
    "text: huge number": '{"image": "a", "input": ' + "1" * 100_000 + "}",
    "text: huge exponent": '{"image": "a", "input": 1e999}',
    "text: NaN": '{"image": "a", "input": NaN}',
    "text: surrogate": '{"image": "\\ud800"}',
    "text: raw surrogate": '{"image": "\ud800"}',
    "text: control": '{"image": "a\nb"}',
    "text: too long": '{"image": "' + "a" * 3_000_000 + '"}',
    "bytes: no UTF-8": b'{"image": "\xff"}',
    "bytes: NUL": b"\x00",
    "nothing": None,
    "list": [],
    "number": 10**5000,
}


def refused(data: object) -> SpecError:
    with pytest.raises(SpecError) as caught:
        JobSpec.parse(data)
    text = str(caught.value)
    assert len(text) < 400
    assert text.isprintable()
    return caught.value


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_description_is_refused_in_a_sentence(name: str) -> None:
    data = HOSTILE[name]
    if name == "in itself":
        data = {"image": "a", "input": {}}
        data["input"]["x"] = data
    error = refused(data)
    if isinstance(data, dict) and len(data) == 2 and "field name" not in name:
        wrong = next(field for field in data if field != "image")
        assert error.field.startswith(shown(wrong))


def test_of_a_name_that_is_there_twice_the_last_one_counts() -> None:
    assert JobSpec.parse('{"image": "a", "image": "b"}').image == "b"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**4000, 10**5000)
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=())),
    lambda some: st.lists(some) | st.dictionaries(st.text(st.characters(codec=None, exclude_categories=())), some),
    max_leaves=20,
)
FIELDS = sorted(JobSpec.model_fields)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON, max_size=4))
def test_parse_takes_any_json_value(data: dict[str, Any]) -> None:
    for value in ({"image": "a", **data}, data):
        try:
            made = JobSpec.parse(value)
        except SpecError as error:
            assert str(error).isprintable()  # noqa: PT017 (either may come)
        else:
            assert JobSpec.parse(json.loads(made.to_json())) == made


def test_errors_are_ours() -> None:
    assert issubclass(SpecError, JaasError)
