"""Which requests go through: a table of those that a worker or an agent makes, and a table of hostile ones."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from jaas_worker.socket_proxy.routes import MAX_TARGET, TABLE, Check, Forbidden, allowed_request

LABEL = urlencode({"filters": json.dumps({"label": ["jaas.job=1"]})})

ALLOWED = [
    ("GET", "/version", "version", Check.NOTHING),
    ("GET", "/v1.41/info", "info", Check.NOTHING),
    ("GET", "/v1.41/nodes/abc123", "nodes/abc123", Check.NOTHING),
    ("GET", f"/v1.41/tasks?{LABEL}", "tasks", Check.TASKS),
    ("GET", f"/v1.41/services?{LABEL}", "services", Check.LABEL),
    ("GET", "/v1.41/services/jaas-1-1", "services/jaas-1-1", Check.SERVICE),
    ("GET", "/v1.41/services/a/logs?timestamps=1&follow=0&tail=all&stdout=1", "services/a/logs", Check.SERVICE),
    ("POST", "/v1.48/services/create", "services/create", Check.CREATE),
    ("POST", "/v1.41/services/a/update?version=12", "services/a/update", Check.UPDATE),
    ("DELETE", "/v1.41/services/a", "services/a", Check.SERVICE),
    ("GET", "/v1.41/containers/json?all=1&" + LABEL, "containers/json", Check.LABEL),
    ("GET", "/v1.41/containers/0f/archive?path=%2Fout%2Fa%20b", "containers/0f/archive", Check.CONTAINER),
    ("GET", "/v1.41/containers/0f/logs?since=1700000000.5&stdout=1", "containers/0f/logs", Check.CONTAINER),
    ("GET", "/v1.41/images/ghcr.io/a/b:1@sha256:00/json", "images/ghcr.io/a/b:1@sha256:00/json", Check.NOTHING),
    ("GET", "/v1.41/distribution/a:1%2B2/json", "distribution/a:1+2/json", Check.NOTHING),
]


@pytest.mark.parametrize(("method", "target", "path", "check"), ALLOWED)
def test_what_jaas_asks_for_goes_through(method: str, target: str, path: str, check: Check) -> None:
    found = allowed_request(method, target)
    assert (found.path, found.check) == (path, check)


FORBIDDEN = [
    # what a client could do with an engine
    ("POST", "/v1.41/containers/create"),
    ("POST", "/v1.41/containers/a/start"),
    ("POST", "/v1.41/containers/a/exec"),
    ("POST", "/v1.41/containers/a/attach?stream=1"),
    ("PUT", "/v1.41/containers/a/archive?path=/"),
    ("HEAD", "/v1.41/containers/a/archive?path=/"),
    ("POST", "/v1.41/exec/a/start"),
    ("POST", "/v1.41/build"),
    ("POST", "/v1.41/images/create?fromImage=a"),
    ("GET", "/v1.41/images/a/get"),
    ("DELETE", "/v1.41/images/a"),
    ("POST", "/v1.41/volumes/create"),
    ("GET", "/v1.41/swarm"),
    ("GET", "/v1.41/swarm/unlockkey"),
    ("POST", "/v1.41/swarm/update"),
    ("POST", "/v1.41/nodes/a/update?version=1"),
    ("POST", "/v1.41/secrets/create"),
    ("DELETE", "/v1.41/secrets/a"),
    ("POST", "/v1.41/configs/a/update?version=1"),
    ("GET", "/v1.41/configs/a"),
    ("POST", "/v1.41/networks/create"),
    ("POST", "/v1.41/networks/a/connect"),
    ("POST", "/v1.41/plugins/pull"),
    ("POST", "/session"),
    ("POST", "/v1.41/auth"),
    ("GET", "/v1.41/containers/a/export"),
    ("GET", "/v1.41/containers/a/attach/ws"),
    ("GET", "/v1.41/containers/a/changes"),
    ("GET", "/v1.41/system/df"),
    # other ways to write a path
    ("GET", "/v1.41/services/../swarm"),
    ("GET", "/v1.41/services/./a"),
    ("GET", "/v1.41/services/%2e%2e/swarm"),
    ("GET", "/v1.41/services/a%2Flogs"),
    ("GET", "/v1.41//swarm"),
    ("GET", "//v1.41/info"),
    ("GET", "/v1.41/networks/a%00b"),
    ("GET", "/v1.41/services/a b"),
    ("GET", "/v1.41/services/a\n"),
    ("GET", "/v1.41/services/-a"),
    ("GET", "/v1.41/services/" + "a" * 256),
    ("GET", "/v1.41/v1.41/info"),
    ("GET", "/v11.41/info"),
    ("GET", "/V1.41/info"),
    ("GET", "/v1.41/INFO"),
    ("GET", "/v1.41/info/"),
    ("GET", "/v1.41/info#x"),
    ("GET", "http://engine/v1.41/info"),
    ("GET", "v1.41/info"),
    ("GET", "*"),
    ("GET", ""),
    ("get", "/v1.41/info"),
    ("GET", "/v1.41/images/a/../../containers/b/json"),
    ("GET", "/v1.41/images//json"),
    ("GET", "/v1.41/images/a%2f..%2f..%2fswarm/json"),
    # parameters
    ("GET", "/v1.41/info?x=1"),
    ("POST", "/v1.41/services/create?rollback=previous"),
    ("POST", "/v1.41/services/a/update?version=1&rollback=previous"),
    ("POST", "/v1.41/services/a/update?version=1&version=2"),
    ("POST", "/v1.41/services/a/update?version=-1"),
    ("POST", "/v1.41/services/a/update?version=1&registryAuthFrom=previous-spec"),
    ("DELETE", "/v1.41/services/a?force=1"),
    ("GET", "/v1.41/containers/json?all=1"),
    ("GET", "/v1.41/services"),
    ("GET", "/v1.41/services?filters={}"),
    ("GET", "/v1.41/services?filters=" + json.dumps({"label": ["com.example"]})),
    ("GET", "/v1.41/services?filters=" + json.dumps({"label": {"jaas.job": True}})),
    ("GET", "/v1.41/services?filters=" + json.dumps({"name": ["jaas."]})),
    ("GET", "/v1.41/tasks?filters=[]"),
    ("GET", "/v1.41/tasks?filters=" + json.dumps({"label": [1]})),
    ("GET", "/v1.41/tasks?filters=" + "[" * 5000),
    ("GET", "/v1.41/tasks?filters=%FF"),
    ("GET", "/v1.41/containers/a/logs?tail=-1"),
    ("GET", "/v1.41/containers/a/logs?details=1"),
    ("GET", "/v1.41/containers/a/stats?stream=yes"),
    ("GET", "/v1.41/containers/a/archive?path=etc"),
    ("GET", "/v1.41/containers/a/archive?path=%2Fa%00b"),
    ("GET", "/v1.41/info?" + "&".join(f"a{n}=1" for n in range(50))),
    ("GET", "/v1.41/tasks?filters=" + "x" * MAX_TARGET),
]


@pytest.mark.parametrize(("method", "target"), FORBIDDEN)
def test_nothing_else_does(method: str, target: str) -> None:
    with pytest.raises(Forbidden):
        allowed_request(method, target)


def test_a_list_keeps_its_limits_on_the_way() -> None:
    found = allowed_request("GET", f"/v1.41/services?{LABEL}")
    assert found.target() == f"/v1.41/services?{LABEL}"


def test_an_id_takes_the_place_of_a_name() -> None:
    found = allowed_request("GET", "/v1.41/services/jaas-1-1/logs?stdout=1")
    assert found.target("0123") == "/v1.41/services/0123/logs?stdout=1"


def test_the_table_writes_nothing_but_services_of_jobs_and_their_inputs() -> None:
    writes = {(row.method, row.path, row.check) for row in TABLE if row.method != "GET"}
    assert writes == {
        ("POST", "services/create", Check.CREATE),
        ("POST", "services/ID/update", Check.UPDATE),
        ("DELETE", "services/ID", Check.SERVICE),
        ("POST", "configs/create", Check.CREATE_CONFIG),
        ("DELETE", "configs/ID", Check.CONFIG),
    }
