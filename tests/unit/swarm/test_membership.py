"""What a service's labels say about its batch."""

from __future__ import annotations

import pytest

from jaas_worker.swarm.membership import membership_of


@pytest.mark.parametrize("index", ["1" * 5000, "²", "-1", "x", ""])
def test_an_index_that_is_none_is_no_membership(index: str) -> None:
    assert membership_of({"jaas.batch": "b", "jaas.index": index}, "job") == {}
