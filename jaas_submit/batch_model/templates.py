"""PURE: one description for many inputs: ``{item}``, ``{item.url}`` and ``{index}`` are filled in for each of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.model.job_spec import MAX_SPEC_BYTES, JobSpec

__all__ = ["ENV_BATCH", "ENV_INDEX", "fill", "uses_item"]

ENV_BATCH: Final = "JAAS_BATCH_ID"
ENV_INDEX: Final = "JAAS_INDEX"
"""Environment variables of a batch's jobs: which batch, and which of its inputs, counted from 0."""

_PLACE = re.compile(r"\{(index|item(?:\.[\w-]++)*+)\}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_place_in(name: str, found: list[Any]) -> bool:
    return len(name) <= 9 and name.isascii() and name.isdigit() and int(name) < len(found)


def _fill_text(text: str, item: Any, index: int, field: str) -> str:
    size = 0

    def value(match: re.Match[str]) -> str:
        nonlocal size
        path = match[1].split(".")
        if path == ["index"]:
            return str(index)
        found = item
        for name in path[1:]:
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and _is_place_in(name, found):
                found = found[int(name)]
            else:
                raise SpecError(f"{field}: input {index} has no {match[0]}{_parts_of(item)}", field=field)
        filled = _text(found)
        size += len(filled)
        if size > MAX_SPEC_BYTES:  # a long text with many placeholders becomes very long
            raise SpecError(
                f"{field}: with input {index} has more than the {MAX_SPEC_BYTES:,} bytes allowed", field=field
            )
        return filled

    return _PLACE.sub(value, text)


def _parts_of(item: Any) -> str:
    """Return what an input has, for an error text."""
    if isinstance(item, dict):
        return f"; it has {', '.join(f'{{item.{shown(str(name))}}}' for name in list(item)[:10]) or 'no names'}"
    if isinstance(item, list):
        return f"; it is a list: {{item.0}} to {{item.{len(item) - 1}}}" if item else "; it is an empty list"
    return ": it is no object; write {item}"


def uses_item(spec: JobSpec) -> bool:
    """Return whether a description has a placeholder for the item (``{item...}``) in its command or environment."""
    texts = [*(spec.command or ()), *(spec.entrypoint or ()), *spec.env.values()]
    return any(match[1] != "index" for text in texts for match in _PLACE.finditer(text))


def fill(
    spec: JobSpec,
    item: Any,
    index: int,
    batch_id: str,
    *,
    as_file: bool | None = None,
    keep: Callable[[Any], Any] = lambda item: item,
) -> JobSpec:
    """Return the description for one input.

    Other braces than ``{item}``, ``{item.name}``, ``{item.0}`` and ``{index}`` are left as they are.

    Args:
        spec: the description, with placeholders for the input in ``command``, ``entrypoint`` and the values of ``env``.
        item: the input: any JSON value.
        index: the input's number, counted from 0.
        batch_id: the batch's id.
        as_file: True hands the item over as the file /run/jaas/input.json, False does not; None does so if the
            description has no placeholder for it.
        keep: returns a reference for an item that is too large for a description.

    Raises:
        SpecError: the input has no such part, or the description is not valid with it.
    """
    changes: dict[str, Any] = {}
    for field in ("command", "entrypoint"):
        words = getattr(spec, field)
        if words is not None:
            changes[field] = [_fill_text(word, item, index, field) for word in words]
    env = {name: _fill_text(text, item, index, f"env.{name}") for name, text in spec.env.items()}
    changes["env"] = {**env, ENV_BATCH: batch_id, ENV_INDEX: str(index)}
    if as_file or (as_file is None and not uses_item(spec)):
        changes["input"] = keep(item)
    return JobSpec.parse({**spec.to_wire(), **changes})
