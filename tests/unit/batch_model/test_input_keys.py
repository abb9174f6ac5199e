"""What an input is known by, and how many jobs may fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaas_submit import SpecError
from jaas_submit.batch_model.failure_limit import max_failures_text
from jaas_submit.batch_model.input_keys import InputKeys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def keys_of(items: list[Any]) -> list[str]:
    keys = InputKeys()
    return [keys.next(item, number).key for number, item in enumerate(items)]


@given(st.lists(JSON, max_size=8), st.randoms())
def test_the_same_inputs_in_any_order_have_the_same_keys(items: list[Any], random: Any) -> None:
    keys = keys_of(items)
    assert len(set(keys)) == len(items)
    moved = [*items]
    random.shuffle(moved)
    assert sorted(keys_of(moved)) == sorted(keys)


def test_keys_never_change() -> None:
    """A producer of another version goes on with a batch by them."""
    keys = keys_of([{"b": 1, "a": "ä"}, {"a": "ä", "b": 1}, 1, "1", True, 1.0])
    assert keys[:2] == ["78892fb919682f85e08161f2", "78892fb919682f85e08161f2#2"]
    assert len(set(keys)) == 6


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), (0, "0"), (3, "3"), ("3", "3"), (0.1, "10%"), ("10%", "10%"), ("0.125", "12.5%"), (0.001, "0.1%")],
)
def test_a_limit_of_failures(value: Any, text: str | None) -> None:
    assert max_failures_text(value) == text


@pytest.mark.parametrize("value", [-1, 1.0, 0.0, "", "x", "100%", "-5%", "1e3", True, "9" * 5000, float("nan"), "0.0"])
def test_what_is_no_limit(value: Any) -> None:
    with pytest.raises(SpecError, match=r"^max_failures: .* is no limit; write a number of jobs") as caught:
        max_failures_text(value)
    assert caught.value.field == "max_failures"
