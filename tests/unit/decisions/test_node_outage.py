"""How a record tells since when a node is down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from jaas_worker.decisions.node_outage import down_since, node_down_detail

SINCE = datetime(2026, 11, 30, 9, 52, 31, tzinfo=UTC)


def test_what_a_record_says_is_read_again() -> None:
    said = node_down_detail("node3", SINCE.astimezone(timezone(timedelta(hours=2))))
    assert said == "node node3 is down since 2026-11-30T09:52:31Z: whether the container still runs is unknown"
    assert down_since(said) == SINCE


@pytest.mark.parametrize(
    "detail",
    [
        "",
        "no suitable node (1 node not available for new tasks)",
        "node n is down since tomorrow: whether the container still runs is unknown",
        "node n is down since 2026-99-99T99:99:99Z: whether the container still runs is unknown",
        node_down_detail("n", SINCE) + " yet",
    ],
)
def test_nothing_else_says_it(detail: str) -> None:
    assert down_since(detail) is None
