"""PURE: the report as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.harness import Row, Section

__all__ = ["as_json", "as_markdown", "number"]


def number(value: float) -> str:
    """Return a number with three significant digits, whole ones whole."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_json(facts: Mapping[str, str], sections: Sequence[Section]) -> dict[str, Any]:
    """Return the report as what ``json.dump`` takes."""
    return {
        "version": 1,
        "machine": dict(facts),
        "parts": [
            {
                "name": section.name,
                "title": section.title,
                "caveats": list(section.caveats),
                "rows": [{**asdict(row), "met": row.met} for row in section.rows],
            }
            for section in sections
        ],
    }


def as_markdown(facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the report as Markdown: the machine first, then a table for each part."""
    lines = ["# Benchmarks", ""]
    lines += [f"* {name}: {value}" for name, value in facts.items()]
    for section in sections:
        lines += ["", f"## {section.title}", "", "| case | figure | value | target |", "| --- | --- | --- | --- |"]
        lines += [_line(row) for row in section.rows]
        if section.caveats:
            lines += ["", *(f"* {text}" for text in section.caveats)]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    value = f"{number(row.value)} {row.unit}".strip()
    if len(row.samples) > 1:
        value += f" ({number(min(row.samples))} to {number(max(row.samples))})"
    target = ""
    if row.target:
        target = f"{row.target.relation} {number(row.target.bound)}: {'met' if row.met else '**missed**'}"
    figure = f"{row.figure} ({row.note})" if row.note else row.figure
    return "| " + " | ".join(text.replace("|", "\\|") for text in (row.case, figure, value, target)) + " |"
