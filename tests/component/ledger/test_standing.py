"""How many jobs are in each state, and for how long: what the metrics show, on a real Redis."""

from __future__ import annotations

import time

from jaas_submit.ledger import Ledger
from jaas_submit.model.states import JobState


def test_standing_counts_states_and_tells_the_oldest_age(ledger: Ledger) -> None:
    ledger.submission.create("a-job", None, "q", "a-job")
    standing = ledger.queries.counts_and_ages()
    count, age = standing[JobState.QUEUED]
    assert count == 1
    assert 0 <= age < time.time()
    assert standing[JobState.RUNNING] == (0, 0.0)
