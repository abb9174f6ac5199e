"""What a client lists."""

from __future__ import annotations

import pytest

from jaas_submit import Cause, Client, JobState
from tests.support.stage import Stage, ended


@pytest.mark.parametrize("state", [JobState.FAILED, "FAILED", "failed", "Failed"])
def test_a_state_may_be_named_in_any_case(stage: Stage, redis_url: str, state: str) -> None:
    stage.add(end=ended())
    failed = stage.add(end=ended(Cause.OOM, 137))
    with Client(redis_url, prefix=stage.ledger.prefix) as client:
        assert [record.id for record in client.history(state)] == [failed]
        assert [record.id for record in client.history(cause="OOM")] == [failed]
