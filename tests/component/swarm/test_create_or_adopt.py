"""Create or adopt: whatever goes wrong, there is one service for an attempt, or it is not known whether there is."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import LABEL_JOB, LABEL_LEDGER, LABEL_SPEC_HASH, LABEL_WORKER, service_name
from jaas_worker.swarm.create_or_adopt import create_or_adopt
from jaas_worker.swarm.engine import ServiceView
from jaas_worker.swarm.service_spec import ServiceDefaults
from tests.support.fake_swarm import FakeSwarm


@pytest.fixture
def engine() -> FakeSwarm:
    return FakeSwarm()


def launch(engine: FakeSwarm, job_id: str = "j", **fields: Any) -> ServiceView:
    spec = JobSpec(image="a", **fields)
    return create_or_adopt(engine, spec, job_id, 1, {LABEL_SPEC_HASH: spec.digest()})


def test_it_creates_the_service(engine: FakeSwarm) -> None:
    service = launch(engine)
    assert service.name == service_name("j", 1)
    assert service.labels[LABEL_JOB] == "j"
    assert engine.starts == [service.name]


def test_a_second_call_adopts(engine: FakeSwarm) -> None:
    assert launch(engine) == launch(engine)
    assert len(engine.starts) == 1


def test_a_lost_reply_is_adopted(engine: FakeSwarm) -> None:
    engine.fail("create", lost_reply=True)
    service = launch(engine)
    assert engine.find(service.name) == service
    assert len(engine.starts) == 1


def test_a_request_that_never_arrived_is_repeated_by_the_caller(engine: FakeSwarm) -> None:
    engine.fail("create")
    with pytest.raises(EngineUnavailable):
        launch(engine)
    assert engine.starts == []
    launch(engine)
    assert len(engine.starts) == 1


def test_a_lost_reply_and_then_an_engine_that_is_away(engine: FakeSwarm) -> None:
    engine.fail("create", lost_reply=True)
    engine.fail("find")
    with pytest.raises(EngineUnavailable):
        launch(engine)
    launch(engine)
    assert len(engine.starts) == 1


def test_a_service_that_is_gone_a_moment_later_is_unknown_not_refused(engine: FakeSwarm) -> None:
    launch(engine)
    gate = engine.hold("find")
    failed: list[BaseException] = []

    def again() -> None:
        try:
            launch(engine)
        except EngineUnavailable as error:
            failed.append(error)

    thread = threading.Thread(target=again)
    thread.start()
    assert gate.reached.wait(10)
    engine.remove_outside("j")
    gate.open()
    thread.join(10)
    assert "removed a moment later" in str(failed[0])


def test_a_foreign_service_of_the_same_name_is_never_adopted(engine: FakeSwarm) -> None:
    launch(engine, command=["one"])
    with pytest.raises(EngineRefused, match="its labels are not those of this job; remove it"):
        launch(engine, command=["another"])


def test_what_the_engine_refuses_is_refused(engine: FakeSwarm) -> None:
    with pytest.raises(EngineRefused, match="network nope not found"):
        launch(engine, networks=["nope"])
    assert engine.starts == []


def test_a_secret_that_does_not_exist_is_refused_before_anything_is_created(engine: FakeSwarm) -> None:
    engine.secrets["token"] = "id-of-token"
    with pytest.raises(EngineRefused, match="secret other does not exist in the swarm; create it with"):
        launch(engine, secrets=["token", "other"])
    assert engine.calls["create"] == 0
    launch(engine, secrets=["token"])
    assert engine.requests[0]["TaskTemplate"]["ContainerSpec"]["Secrets"][0]["SecretID"] == "id-of-token"


def test_many_at_once_make_one_service(engine: FakeSwarm) -> None:
    made: list[ServiceView] = []
    threads = [threading.Thread(target=lambda: made.append(launch(engine))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 20
    assert len({service.id for service in made}) == 1
    assert len(engine.starts) == 1


def test_the_service_that_another_worker_asked_for_is_adopted_and_keeps_that_worker_s_label(engine: FakeSwarm) -> None:
    spec = JobSpec(image="a")
    first, second = (ServiceDefaults({LABEL_LEDGER: "x"}, name) for name in ("worker-1", "worker-2"))
    made = create_or_adopt(engine, spec, "j", 1, {}, defaults=first)
    assert create_or_adopt(engine, spec, "j", 1, {}, defaults=second) == made
    assert made.labels[LABEL_WORKER] == "worker-1"


def test_the_service_of_another_installation_is_not_adopted(engine: FakeSwarm) -> None:
    spec = JobSpec(image="a")
    create_or_adopt(engine, spec, "j", 1, {}, defaults=ServiceDefaults({LABEL_LEDGER: "theirs"}))
    with pytest.raises(EngineRefused, match="labels are not those"):
        create_or_adopt(engine, spec, "j", 1, {}, defaults=ServiceDefaults({LABEL_LEDGER: "ours"}))
