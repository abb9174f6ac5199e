"""The engine's times."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from jaas_worker.decisions import times
from jaas_worker.decisions.times import parse_time


def test_a_time_that_is_too_long_is_read_as_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_time("x") is None
    seen = Mock()
    monkeypatch.setattr(times, "_NANOSECONDS", seen)
    assert parse_time("2026-01-01T00:00:00." + "1" * 16_000) is None
    assert not seen.mock_calls
