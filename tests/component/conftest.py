"""Fixtures for tests of the command line."""

from __future__ import annotations

import pytest

from jaas_submit.ledger import Ledger
from tests.support.stage import Stage


@pytest.fixture
def stage(ledger: Ledger, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Plays the worker's part in a real Redis."""
    return Stage(ledger, redis_url, monkeypatch)
