"""Batches that are submitted again, replayed in place or stopped by a rule, with a worker and real containers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jaas_submit import BatchFailed, Client, JobState
from jaas_submit.model.wire_names import service_name
from tests.support.jobs import LONG, shell, until
from tests.support.wait import eventually
from tests.support.witness import Witness

pytestmark = [
    pytest.mark.engine,
    pytest.mark.redis,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("worker", "no_service_left"),
]

WORKER = {"lease": "4s", "reconcile_interval": "200ms"}


def test_a_key_again_starts_what_is_new_and_results_are_in_this_order(client: Client, witness: Witness) -> None:
    spec = witness.spec("echo {item}", output="json")
    client.map(spec, [2, 3], key="nightly").wait(LONG)
    batch = client.map(spec, [1, 3, 2], key="nightly")
    assert batch.existing == 2
    assert [result.check().output for result in batch.results(ordered=True, timeout=LONG)] == [1, 3, 2]
    assert len(witness.starts()) == 3


def test_a_replay_in_place_with_another_input_reaches_the_reduce(client: Client) -> None:
    maps = shell('grep -v bad "$JAAS_INPUT"', output="json")
    made = client.map_reduce(maps, ["one", "bad"], shell('cat "$JAAS_INPUT"', output="text"))
    with pytest.raises(BatchFailed, match="1 of 2 jobs succeeded"):
        made.wait(LONG)
    until(client, made.final.id, JobState.SKIPPED)
    (failed,) = made.maps.failed
    client.replay(failed.id, in_place=True, input="two")
    lines = [json.loads(line) for line in made.wait(LONG).output.splitlines()]
    assert [(line["index"], line["output"]) for line in lines] == [(0, "one"), (1, "two")]
    assert client.map_reduce_of(made.id).final.id == made.final.id
    assert made.maps.status.counts == {JobState.SUCCEEDED: 2}


@pytest.mark.parametrize("rule", [{"max_failures": 0}, {"min_success": 0.9}])
def test_a_broken_rule_stops_what_runs_and_starts_no_more(
    client: Client, witness: Witness, rule: dict[str, Any]
) -> None:
    held = f"if [ {{item}} = bad ]; then until [ -e /witness/fail ]; do sleep 0.05; done; exit 4; fi; {witness.held()}"
    batch = client.map(witness.spec(held), ["bad", "a", "b", "c"], max_parallel=2, **rule)
    until(client, batch.job(1).id, JobState.RUNNING)
    witness.open("fail")
    with pytest.raises(BatchFailed, match=r"stopped by m.*1 x exit code 4"):
        batch.wait(LONG)
    assert batch.status.counts == {JobState.FAILED: 1, JobState.CANCELLED: 3}
    assert len(witness.starts()) == 2
    name = service_name(batch.job(1).id, 1)
    eventually(lambda: name not in str(client.explain(batch.job(1).id)), LONG, "the container to be gone")
    assert "stopped by m" in str(client.explain(batch.job(3).id))
