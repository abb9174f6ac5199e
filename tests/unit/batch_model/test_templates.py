"""One description for many inputs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit import JobSpec, SpecError
from jaas_submit.batch_model.templates import ENV_BATCH, ENV_INDEX, fill, uses_item

URL = {"url": "http://a", "tags": ["x", "y"], "deep": {"er": 1}, "a-b": "dash", "none": None, "n": 1.5}


def words(text: str, item: Any, index: int = 3) -> str:
    filled = fill(JobSpec(image="a", command=[text]), item, index, "b")
    assert filled.command is not None
    return filled.command[0]


@pytest.mark.parametrize(
    ("text", "item", "filled"),
    [
        ("{item}", "text", "text"),
        ("<{item}|{item}>", "x", "<x|x>"),
        ("{item}", 7, "7"),
        ("{item}", True, "true"),
        ("{item}", None, "null"),
        ("{item}", {"a": ["ä"]}, '{"a": ["ä"]}'),
        ("{index}", "x", "3"),
        ("{item.url}", URL, "http://a"),
        ("{item.tags.1}", URL, "y"),
        ("{item.tags}", URL, '["x", "y"]'),
        ("{item.deep.er}", URL, "1"),
        ("{item.a-b}", URL, "dash"),
        ("{item.none}", URL, "null"),
        ("{item.n}", URL, "1.5"),
        ("{item.0}", ["first"], "first"),
        # what an input holds is never filled in again
        ("{item}", "{index} {item}", "{index} {item}"),
        # any other braces are none of our business
        ("{}", "x", "{}"),
        ("{items}", "x", "{items}"),
        ("{ item }", "x", "{ item }"),
        ("{item.}", "x", "{item.}"),
        ("${item}", "x", "$x"),
        ("{{.Node.Hostname}}", "x", "{{.Node.Hostname}}"),
        ("awk '{print $1}'", "x", "awk '{print $1}'"),
        ("{{item}}", "x", "{x}"),
    ],
)
def test_places_are_filled_in(text: str, item: Any, filled: str) -> None:
    assert words(text, item) == filled


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("{item.uri}", URL),
        ("{item.tags.2}", URL),
        ("{item.tags.-1}", URL),
        ("{item.url.x}", URL),
        ("{item.url}", "text"),
        ("{item.0}", {}),
    ],
)
def test_a_part_that_an_input_does_not_have_is_named(text: str, item: Any) -> None:
    with pytest.raises(SpecError) as caught:
        words(text, item)
    assert caught.value.field == "command"
    assert str(caught.value).startswith(f"command: input 3 has no {text}")


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("a", ": it is no object; write {item}"),
        ({"url": 1, "tags": 2}, "; it has {item.url}, {item.tags}"),
        ({}, "; it has no names"),
        ([1, 2], "; it is a list: {item.0} to {item.1}"),
        ([], "; it is an empty list"),
    ],
)
def test_what_an_input_has_instead_is_told(item: Any, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        words("{item.x}", item)
    assert str(caught.value) == f"command: input 3 has no {{item.x}}{told}"


def test_every_field_with_places() -> None:
    spec = JobSpec(
        image="a",
        entrypoint=["{item.app}", "-v"],
        command=["{index}"],
        env={"NAME": "{item.app}", "OTHER": "as it is"},
    )
    filled = fill(spec, {"app": "crawler"}, 0, "b-1")
    assert filled == JobSpec(
        image="a",
        entrypoint=["crawler", "-v"],
        command=["0"],
        env={"NAME": "crawler", "OTHER": "as it is", ENV_BATCH: "b-1", ENV_INDEX: "0"},
    )


def test_names_of_variables_and_other_fields_are_left_alone() -> None:
    spec = JobSpec(image="a", env={"{index}": "x"}, labels={"l": "{item}"}, name="n", workdir="/{item}")
    filled = fill(spec, "x", 1, "b")
    assert filled.env["{index}"] == "x"
    assert (filled.labels, filled.workdir) == ({"l": "{item}"}, "/{item}")


def test_what_an_input_makes_of_a_description_is_checked() -> None:
    with pytest.raises(SpecError, match="NUL"):
        fill(JobSpec(image="a", env={"A": "{item}"}), "a\x00b", 0, "b")


@pytest.mark.parametrize(
    ("fields", "uses"),
    [
        ({}, False),
        ({"command": ["{index}"]}, False),
        ({"command": ["x", "{item}"]}, True),
        ({"entrypoint": ["{item.a}"]}, True),
        ({"env": {"A": "{item}"}}, True),
        ({"env": {"{item}": "A"}}, False),
        ({"labels": {"a": "{item}"}}, False),
    ],
)
@pytest.mark.parametrize("as_file", [None, True, False])
def test_an_input_comes_as_a_file_where_there_is_no_place_for_it(
    fields: dict[str, Any], uses: bool, as_file: bool | None
) -> None:
    spec = JobSpec(image="a", **fields)
    assert uses_item(spec) == uses
    wanted = not uses if as_file is None else as_file
    assert fill(spec, {"a": 1}, 0, "b", as_file=as_file).input == ({"a": 1} if wanted else None)


plain = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=6,
)


@given(item=values, index=st.integers(0, 100_000), around=plain)
def test_an_input_arrives_as_it_is(item: Any, index: int, around: str) -> None:
    around = around.replace("{", "(")
    text = words(f"{around}{{item}}{around}", item, index)
    inner = text[len(around) : len(text) - len(around)]
    assert (inner if isinstance(item, str) else json.loads(inner)) == item
    assert fill(JobSpec(image="a"), item, index, "b").input == item


def test_many_places_for_a_long_item_are_refused_before_they_are_filled() -> None:
    spec = JobSpec(image="a", command=("{item}" * 10_000,))
    seen: list[str] = []

    class Item(str):
        __slots__ = ()

        def __len__(self) -> int:
            seen.append("")
            return 100_000

    with pytest.raises(SpecError, match="command: with input 3 has more than the 524,288 bytes allowed") as caught:
        fill(spec, Item("x"), 3, "b")
    assert caught.value.field == "command"
    assert len(seen) == 6  # of 10,000
