"""The examples of the documentation pass the type checkers that readers' editors run."""

from __future__ import annotations

from pathlib import Path

from tests.support.examples import findings


def test_mypy_and_pyright_find_nothing_in_the_examples(tmp_path: Path) -> None:
    assert findings(tmp_path) == []
