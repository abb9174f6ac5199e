"""The pages of the documentation, and the tables in them."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DOCS", "ROOT", "rows", "tables"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def tables(page: Path) -> list[tuple[list[str], list[list[str]]]]:
    """Return header and rows of each table of a page, without the marks of code."""
    found: list[tuple[list[str], list[list[str]]]] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("|"):
            continue
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if number == 0 or not lines[number - 1].startswith("|"):
            found.append((cells, []))
        elif not set(line) <= set("|- :"):
            found[-1][1].append(cells)
    return found


def rows(page: Path, header: str) -> list[list[str]]:
    """Return the rows of all tables whose first column has this header."""
    return [row for head, body in tables(page) if head[0] == header for row in body]
