"""docs/mistakes.md: what people get wrong, and what they are told; each row is run here."""

from __future__ import annotations

import pytest

from tests.support.mistakes import COMMANDS, SNIPPETS, page
from tests.support.pages import DOCS


@pytest.fixture(scope="module")
def made() -> list[str]:
    return page().splitlines()


def test_the_page_says_what_is_told(made: list[str]) -> None:
    written = (DOCS / "mistakes.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in made if line not in written] == [], "run `python -m tests.support.mistakes`"
    assert len(written) == len(made)


def test_each_is_refused_in_one_sentence(made: list[str]) -> None:
    rows = [line.strip("|").split(" | ") for line in made if line.startswith("| `")]
    assert len(rows) == len(COMMANDS) + len(SNIPPETS) >= 60
    for what, told, result in rows:
        assert result.strip() not in {"0", "`AttributeError`", "`TypeError`", "`KeyError`", "``"}, what
        assert told.count("jaas: ") <= (2 if "broken.jsonl" in what else 1) + ("map" in what), what
        assert "Traceback" not in told
        assert "internal error" not in told
