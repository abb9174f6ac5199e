"""What `jaas doctor` says about jobs that wait in vain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from jaas_submit import Client, JobSpec, JobState
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.doctor.waiting_checks import waiting_checks
from jaas_submit.ledger import Ledger
from jaas_submit.ledger.health import Health
from jaas_submit.model.cluster import Cluster, Node
from tests.support.redis_server import OwnRedis

SPEC = JobSpec(image="a")
GIB = 2**30


@pytest.fixture
def client(redis_url: str, prefix: str) -> Client:
    return Client(redis_url, queue=prefix, prefix=prefix)


def look(client: Client) -> dict[str, Check]:
    return {check.name: check for check in waiting_checks(client, second_look=0.0)}


def serve(client: Client, queue: str, **info: Any) -> None:
    client.ledger.maintenance.renew_lease("w", 60, {"queue": queue, **info})


def know(client: Client, *nodes: Node) -> None:
    client.ledger.maintenance.save_cluster(Cluster(at=datetime.now(UTC), nodes=nodes))


def node(name: str, **fields: Any) -> Node:
    usual = {"cpus": 4, "memory": 8 * GIB, "free_cpus": 0, "free_memory": 0}
    return Node(id=name, hostname=name, **{**usual, **fields})


def pend(client: Client, job_id: str, spec: JobSpec) -> None:
    """Have a job's service exist, without a node."""
    client.ledger.submission.create(job_id, spec, client.queue)
    assert client.ledger.ownership.claim(job_id, "w").action == "launch"
    assert client.ledger.ownership.move(job_id, "w", JobState.PENDING, detail="no suitable node")


def test_an_installation_in_order(client: Client) -> None:
    serve(client, client.queue)
    know(client, node("n1"), node("n2"))
    pend(client, "a", SPEC)
    assert look(client) == {
        "installation": Check("installation", Verdict.OK, f"prefix {client.ledger.prefix!r}, queue {client.queue!r}"),
        "nodes": Check("nodes", Verdict.OK, "2 nodes, all ready and active"),
    }


def test_a_queue_that_nobody_serves(client: Client) -> None:
    serve(client, "other")
    found = look(client)["unserved queues"]
    assert (found.verdict, found.detail) == ("warn", f"no worker takes {client.queue!r} (0 jobs QUEUED)")
    assert f"JAAS_QUEUE={client.queue}, or name a queue that has workers ('other')" in found.fix


def test_jobs_in_a_queue_that_nobody_serves(client: Client) -> None:
    serve(client, client.queue, queues=[client.queue, "celery"])
    for number, queue in enumerate(["nope", "nope", client.queue, "celery"]):
        client.ledger.submission.create(str(number), SPEC, queue)
    assert look(client)["unserved queues"].detail == "no worker takes 'nope' (2 jobs QUEUED)"


def test_without_any_worker_another_check_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Health, "other_prefixes", lambda _: {})
    client.ledger.submission.create("a", SPEC, "nope")
    assert set(look(client)) == {"installation"}


def test_workers_of_another_prefix_only(own_redis: Callable[..., OwnRedis], prefix: str) -> None:
    client = Client(own_redis().url, queue=prefix, prefix=prefix)  # others' workers are in a shared one
    other = f"{client.ledger.prefix}-x"
    Ledger(client.ledger.client, other).maintenance.renew_lease("w", 60, {})
    assert client.ledger.health.other_prefixes()[other] == 1
    found = look(client)["prefix"]
    assert found.verdict == "warn"
    assert found.detail.startswith(f"no worker with prefix {client.ledger.prefix!r}, but 1 worker with ")
    assert "JAAS_PREFIX" in found.fix


def test_nodes_that_take_no_jobs(client: Client) -> None:
    know(client, node("n1"), node("n2", state="down"), node("n3", availability="drain"))
    found = look(client)["nodes"]
    assert (found.verdict, found.detail) == ("warn", "n2 is down, n3 is set to drain; 1 of 3 take jobs")
    assert "start Docker" in found.fix
    assert "--availability active" in found.fix


def test_jobs_that_no_node_can_ever_take(client: Client) -> None:
    serve(client, client.queue)
    know(client, node("n1", log_drivers=("local",)), node("n2", log_drivers=("local",)))
    pend(client, "fits-later", JobSpec(image="a", reservations={"memory": "8G"}))
    pend(client, "too-large", JobSpec(image="a", reservations={"memory": "9G"}))
    pend(client, "elsewhere", JobSpec(image="a", constraints=["node.labels.disk==ssd"]))
    pend(client, "no-driver", JobSpec(image="a", log_driver="loki"))
    found = look(client)["jobs without a node"]
    assert found.verdict == "warn"
    assert "job no-driver: missing plugin on 2 nodes" in found.detail
    assert "job too-large: insufficient memory on 2 nodes" in found.detail
    assert "job elsewhere: constraint not met on 2 nodes" in found.detail
    assert "fits-later" not in found.detail
    assert "jaas explain ID" in found.fix


@pytest.mark.parametrize(("queues", "fix"), [([], "JAAS_TAKE_DEFAULT_QUEUE=true"), (["celery"], "restart the workers")])
def test_jobs_in_celerys_default_queue(own_redis: Any, queues: list[str], fix: str) -> None:
    server: OwnRedis = own_redis()
    with Client(server.url, queue="q") as client:
        serve(client, "q", queues=["q", *queues])
        client.app.send_task("theirs", queue="celery")
        assert "default queue" not in look(client), "another application's tasks are its own business"
        client.app.send_task("jaas.run", queue="celery")
        found = look(client)["default queue"]
    assert (found.verdict, fix in found.fix) == ("warn", True)
    assert found.detail == "2 messages in Celery's queue 'celery', jobs among them, and no worker takes any"


def test_a_redis_that_is_away_is_reported_elsewhere() -> None:
    assert waiting_checks(Client("redis://127.0.0.1:1")) == []
