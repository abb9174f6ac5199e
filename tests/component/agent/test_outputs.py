"""Where a worker looks for what agents found: a real Redis."""

from __future__ import annotations

import pytest

from jaas_submit.errors import EngineUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.output import READING, AgentLeases, FileTransfers, WholeOutput, WholeOutputs
from jaas_worker.agent.files.collector import FileCollector
from jaas_worker.agent.outputs import AgentOutputs
from jaas_worker.swarm.engine import ContainerRef

FOUND = WholeOutput("c", "complete", stdout=3)
ME = "this process"


class OwnAgent:
    """The agent in this process; it follows node "here"."""

    def __init__(self, found: WholeOutput) -> None:
        self.found = found

    def start(self) -> None: ...
    def close(self) -> None: ...

    def output_of(self, container: ContainerRef, node_id: str, timeout: float) -> WholeOutput | None:
        return self.found if node_id == "here" else None


def outputs(ledger: Ledger, own: str = "complete") -> AgentOutputs:
    client, prefix = ledger.client, ledger.prefix
    agent = OwnAgent(WholeOutput("c", own, stdout=1))
    leases = AgentLeases(client, prefix)
    files = FileCollector(FileTransfers(client, prefix), leases, None)
    return AgentOutputs(agent, WholeOutputs(client, prefix), leases, ME, files)


def test_the_agent_in_this_process_is_asked_first(ledger: Ledger) -> None:
    WholeOutputs(ledger.client, ledger.prefix).put("j", 1, FOUND)
    found = outputs(ledger).find("j", 1, "c", "here", 1.0)
    assert found is not None
    assert found.stdout == 1


def test_what_it_could_not_read_is_told_as_well(ledger: Ledger) -> None:
    WholeOutputs(ledger.client, ledger.prefix).put("j", 1, FOUND)
    found = outputs(ledger, "unavailable").find("j", 1, "c", "here", 1.0)
    assert found is not None
    assert found.status == "unavailable"


def test_another_nodes_agent_has_written_to_redis_and_what_was_found_is_deleted_when_it_is_stored(
    ledger: Ledger,
) -> None:
    stored = WholeOutputs(ledger.client, ledger.prefix)
    stored.put("j", 1, FOUND)
    mine = outputs(ledger)
    assert mine.find("j", 1, "another container", "there", 1.0) is None
    mine.drop("j", 1)
    assert stored.get("j", 1) is not None, "it was not taken"
    assert mine.find("j", 1, "c", "there", 1.0) == FOUND
    mine.drop("j", 1)
    assert stored.get("j", 1) is None
    assert mine.find("j", 2, "c", "there", 1.0) is None


def test_only_another_process_with_a_lease_is_waited_for(ledger: Ledger) -> None:
    leases = AgentLeases(ledger.client, ledger.prefix)
    leases.take("mine", ME, log_driver="local")
    leases.take("other", "another process", log_driver="none")
    mine = outputs(ledger)
    assert [mine.expected(node) for node in ("mine", "other", "nobody's")] == [False, True, False]
    assert [mine.log_driver(node) for node in ("mine", "other", "nobody's")] == ["local", "none", ""]
    assert mine.find("j", 1, "c", "other", 1.0) is None


def test_an_output_that_is_still_being_read_is_waited_for_as_long_as_its_agent_lives(ledger: Ledger) -> None:
    stored, mine = WholeOutputs(ledger.client, ledger.prefix), outputs(ledger)
    stored.put("j", 1, WholeOutput("c", READING))
    assert mine.find("j", 1, "c", "nobody's", 1.0) is None
    AgentLeases(ledger.client, ledger.prefix).take("other", "another process")
    with pytest.raises(EngineUnavailable, match="has not read all of it yet"):
        mine.find("j", 1, "c", "other", 1.0)
    assert mine.find("j", 1, "another container", "other", 1.0) is None
    stored.put("j", 1, FOUND)
    assert mine.find("j", 1, "c", "other", 1.0) == FOUND
