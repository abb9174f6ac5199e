"""The real engine's client, as far as it can be tested without an engine: errors, refusals and the log stream."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import docker.errors
import pytest
import requests
import urllib3.exceptions

from jaas_submit.errors import (
    AnswerTooLong,
    EngineNotFound,
    EngineRefused,
    EngineUnavailable,
    ImageRefused,
    JaasError,
    NotAManager,
    PermanentError,
    TemporaryError,
)
from jaas_submit.model.cluster import Node
from jaas_submit.model.job_spec import JobSpec
from jaas_worker.swarm.docker_engine import Swarm, require_manager
from jaas_worker.swarm.engine import ContainerTimes, EngineEvent, Frame, ServiceView, SwarmInfo, TaskView
from jaas_worker.swarm.http import EngineAnswer, EngineHTTP, demultiplex, json_lines, mapped
from jaas_worker.swarm.responses import distribution_in, node_of, nodes_in, services_in, tasks_in, times_in
from jaas_worker.swarm.service_spec import service_request
from tests.support.engine_http import serving
from tests.support.fake_swarm import FakeSwarm
from tests.support.wait import eventually

# -- no manager ------------------------------------------------------------------------------------------------------


def info(**fields: Any) -> SwarmInfo:
    base = {"engine_version": "20.10", "api_version": "1.41", "node_id": "n", "node_name": "node1"}
    return SwarmInfo(**{**base, "state": "active", "manager": True, **fields})


REFUSED = [
    ({"state": "inactive", "manager": False}, "is not in a swarm: it is inactive; run `docker swarm init` there"),
    ({"state": "pending", "manager": False}, "is not in a swarm: it is pending;"),
    ({"state": "locked", "manager": False, "error": "is encrypted"}, "it is locked (is encrypted); run"),
    ({"manager": False}, "unix:///x.sock (node1) is a swarm worker, not a manager; run jaas workers on manager"),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_an_engine_that_is_no_manager_is_refused_with_the_way_out(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(NotAManager) as caught:
        require_manager(info(**fields), "unix:///x.sock")
    assert words in str(caught.value)
    assert "docker " in str(caught.value)
    assert "unix:///x.sock" in str(caught.value)


def test_a_manager_is_accepted() -> None:
    require_manager(info(), "unix:///x.sock")


# -- an engine that speaks another version of its API than it did -----------------------------------------------------


@pytest.mark.parametrize("spoken", [("1.44", "1.51"), ("1.12", "1.40")], ids=["upgraded", "downgraded"])
def test_an_engine_that_was_exchanged_is_asked_for_its_api_version_anew(
    tmp_path: Path, spoken: tuple[str, str]
) -> None:
    engine = FakeSwarm()
    with serving(engine, str(tmp_path / "sock")) as host:
        swarm = Swarm(host)
        assert swarm.info().api_version == "1.41"
        engine.api_versions = spoken
        assert swarm.down_nodes() == set()
        assert swarm.info().api_version == spoken[1]


def test_an_engine_that_takes_no_version_of_its_api_refuses_no_job(tmp_path: Path) -> None:
    engine = FakeSwarm()
    with serving(engine, str(tmp_path / "sock")) as host:
        swarm = Swarm(host)
        swarm.down_nodes()
        engine.api_versions = ("1.44", "1.41")
        with pytest.raises(EngineUnavailable, match=r"client version 1\.41 is too old"):
            swarm.down_nodes()


# -- an engine that does not answer ----------------------------------------------------------------------------------


@pytest.fixture
def deaf_engine() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="asking the engine: the engine does not answer"):
        Swarm(f"unix://{tmp_path}/no-such.sock").info()


def test_a_port_on_which_nobody_listens() -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(EngineUnavailable):
            Swarm(f"tcp://127.0.0.1:{taken.getsockname()[1]}").info()


def test_every_call_gives_up_on_an_engine_that_hangs(deaf_engine: str) -> None:
    """Events may be long in coming; the health of the engine is asked for beside them."""
    swarm = Swarm(deaf_engine, timeout=1)
    request = {"Name": "x", "Labels": {}, "TaskTemplate": {"ContainerSpec": {"Image": "a"}}}
    calls: list[Callable[[], object]] = [
        swarm.info,
        lambda: swarm.create(request),
        lambda: swarm.find("x"),
        lambda: swarm.resolve("x"),
        lambda: swarm.node_change("x"),
        lambda: swarm.ended_tasks("x"),
        lambda: swarm.stop("x"),
        lambda: swarm.remove("x"),
        lambda: list(swarm.logs("x", "y", 1)),
    ]
    for call in calls:
        with pytest.raises(EngineUnavailable):
            call()


def test_what_it_says_of_itself_has_no_secrets() -> None:
    assert repr(Swarm("unix:///x.sock")) == "Swarm('unix:///x.sock')"


# -- answers ---------------------------------------------------------------------------------------------------------

TASKS = [
    (b"null", []),
    (b"[]", []),
    (b'[{"ID": "t"}]', [TaskView("t", "", "", "", "new")]),
    (b'[{"ID": "t", "Status": {"State": "new", "ContainerStatus": null}}]', [TaskView("t", "", "", "", "new")]),
    (
        b'[{"ID": "t", "Version": {"Index": 1}, "CreatedAt": "c", "Labels": null, "Spec": {"X": [1, null]}, '
        b'"ServiceID": "s", "NodeID": "n", "DesiredState": "shutdown", "Status": {"Timestamp": "at", "State": "failed",'
        b' "Message": "m", "Err": "e", "ContainerStatus": {"ContainerID": "k", "PID": 0, "ExitCode": 4}}}]',
        [TaskView("t", "s", "c", "shutdown", "failed", "n", "m", "e", "at", "k", 4)],
    ),
]


@pytest.mark.parametrize(("answer", "tasks"), TASKS)
def test_tasks_are_read(answer: bytes, tasks: list[TaskView]) -> None:
    assert tasks_in(answer) == tasks


SERVICES = [
    (b"null", []),
    (b'[{"ID": "s", "Spec": {"Name": "a"}}]', [ServiceView("s", "a")]),
    (b'[{"ID": "s", "Spec": {"Name": "a", "Labels": null, "TaskTemplate": {}}}]', [ServiceView("s", "a")]),
    (
        b'[{"ID": "s", "CreatedAt": "c", "Spec": {"Name": "a", "Labels": {"x": "1"}, "Mode": {}, "TaskTemplate": '
        b'{"ContainerSpec": {"Image": "i", "Env": ["A=1", "B"]}}}}]',
        [ServiceView("s", "a", {"x": "1"}, "c", ("A=1", "B"))],
    ),
]


@pytest.mark.parametrize(("answer", "services"), SERVICES)
def test_services_are_read(answer: bytes, services: list[ServiceView]) -> None:
    assert services_in(answer) == services


TIMES = [
    (b'{"State": {"Status": "exited", "StartedAt": "b", "FinishedAt": "e", "ExitCode": 3}}', ("b", "e", False, 3)),
    (b'{"State": {"Status": "running", "StartedAt": "b", "FinishedAt": "0", "ExitCode": 0}}', ("b", "0", False, None)),
    (b'{"State": {"Status": "exited", "StartedAt": "0001-", "FinishedAt": "e"}}', ("0001-", "e", False, None)),
    (
        b'{"Id": "k", "State": {"Status": "dead", "StartedAt": "b", "FinishedAt": "e", "OOMKilled": true,'
        b' "ExitCode": 137}}',
        ("b", "e", True, 137),
    ),
]


@pytest.mark.parametrize(("answer", "times"), TIMES)
def test_a_containers_times_are_read(answer: bytes, times: tuple[Any, ...]) -> None:
    assert times_in(answer) == ContainerTimes(*times)


NODES = [
    (b"null", []),
    (
        b'[{"ID": "n", "Spec": {}, "Description": {"Hostname": "a"}, "Status": {"State": "ready"}}]',
        [Node(id="n", hostname="a", free_cpus=-1.0, free_memory=-5)],
    ),
    (
        b'[{"ID": "n", "Spec": {}, "Description": {"Engine": {"Plugins": [{"Type": "Log", "Name": "local"},'
        b' {"Type": "Volume", "Name": "nfs"}]}}, "Status": {"State": "ready"}}]',
        [Node(id="n", hostname="", free_cpus=-1.0, free_memory=-5, log_drivers=("local",))],
    ),
    # It has never said anything of itself.
    (
        b'[{"ID": "n", "Spec": {"Role": "manager"}, "Description": {}, "Status": {"State": "unknown"}}]',
        [Node(id="n", hostname="", role="manager", state="unknown", free_cpus=-1.0, free_memory=-5)],
    ),
]


@pytest.mark.parametrize(("answer", "nodes"), NODES)
def test_nodes_are_read(answer: bytes, nodes: list[Node]) -> None:
    assert [node_of(item, 1.0, 5) for item in nodes_in(answer)] == nodes


@pytest.mark.parametrize("answer", [b"", b"<html>", b'{"message": "hello"}', b'[{"ID": 1}]', b"[null]"])
def test_an_answer_that_is_none_counts_as_no_answer(answer: bytes) -> None:
    """Something else answers in the engine's place, or cuts the answer off: to be asked again."""
    with (
        pytest.raises(EngineUnavailable, match=r"^listing: its answer is not valid in Docker's API"),
        mapped("listing"),
    ):
        tasks_in(answer)


# -- errors of a request ----------------------------------------------------------------------------------------------


def api_error(status: int, text: str = "no") -> EngineAnswer:
    return EngineAnswer(status, text)


ERRORS: list[tuple[Exception, type[JaasError]]] = [
    (api_error(400), EngineRefused),
    (api_error(401), EngineRefused),
    (api_error(403), EngineRefused),
    (api_error(404), EngineNotFound),
    (api_error(406), EngineRefused),
    (api_error(409), EngineRefused),
    (api_error(400, "config not found: a"), EngineRefused),  # no service was to be created
    (api_error(400, "client version 1.41 is too old"), EngineUnavailable),
    (api_error(400, "value 'client version 1 is too old' is invalid"), EngineRefused),
    (api_error(408), EngineUnavailable),
    (api_error(429), EngineUnavailable),
    (api_error(500), EngineUnavailable),
    (api_error(503, "This node is not a swarm manager"), EngineUnavailable),
    (api_error(507, "socket proxy: the engine's answer has more than 5 bytes"), AnswerTooLong),
    (api_error(500, "rpc error: code = DeadlineExceeded"), EngineUnavailable),
    # Docker 20.10 answers 500 to these, although the request itself is wrong.
    (api_error(500, "network nope not found"), EngineRefused),
    (api_error(500, "rpc error: code = Unknown desc = constraint expected one operator from ==, !="), EngineRefused),
    (api_error(500, "rpc error: code = Unknown desc = key 'a b' is invalid"), EngineRefused),
    (api_error(500, "rpc error: code = Unknown desc = value ''eu'' is invalid"), EngineRefused),
    (
        api_error(500, "rpc error: code = Unknown desc = raft: raft message is too large and can't be sent"),
        EngineRefused,
    ),
    (
        api_error(500, "rpc error: code = ResourceExhausted desc = grpc: received message larger than max"),
        EngineRefused,
    ),
    (api_error(500, "rpc error: code = Unknown desc = The swarm does not have a leader."), EngineUnavailable),
    (docker.errors.DockerException("no version"), EngineUnavailable),
    (requests.ConnectionError("refused"), EngineUnavailable),
    (requests.ReadTimeout("slow"), EngineUnavailable),
    (urllib3.exceptions.ReadTimeoutError(None, "/", "slow"), EngineUnavailable),  # type: ignore[arg-type] # no pool
    (urllib3.exceptions.ProtocolError("broken"), EngineUnavailable),
    (ConnectionResetError("reset"), EngineUnavailable),
    (TimeoutError("slow"), EngineUnavailable),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=repr)
def test_errors_become_temporary_or_permanent_ones(error: Exception, kind: type[JaasError]) -> None:
    with pytest.raises(kind, match=r"^doing it: ") as caught, mapped("doing it"):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error
    assert isinstance(caught.value, TemporaryError) != isinstance(caught.value, PermanentError)


RPC = "rpc error: code = InvalidArgument desc = "


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (RPC + "config not found: a", TemporaryError),
        (RPC + "configs not found: a, b", TemporaryError),
        ("config not found: a", TemporaryError),
        ("socket proxy: config not found: a", TemporaryError),
        # A description's own words in the engine's answer.
        (RPC + "name 'config not found: a' is invalid", EngineRefused),
        ("invalid mount target: config not found: a", EngineRefused),
        ("invalid mount target: client version 9 is too new", EngineRefused),
        (RPC + "secret not found: a", EngineRefused),
    ],
)
def test_only_a_config_that_is_gone_is_asked_for_again(said: str, kind: type[JaasError], tmp_path: Path) -> None:
    engine = FakeSwarm()
    engine.fail("create", error=EngineRefused(f"creating service jaas-j-1: {said}"))
    with serving(engine, str(tmp_path / "sock")) as host:
        swarm, request = Swarm(host), service_request(JobSpec(image="a"), "j", 1, {}, {})
        with pytest.raises(JaasError) as caught:
            swarm.create(request)
    assert type(caught.value) is kind
    assert str(caught.value) == f"creating service jaas-j-1: {said}"


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with pytest.raises(KeyError), mapped("doing it"):
        raise KeyError("a bug")


# -- the log stream --------------------------------------------------------------------------------------------------


class Trickle(io.RawIOBase):
    """A body that arrives a few bytes at a time, as from a socket."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._step))

    read1 = read


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def demultiplexed(body: bytes, step: int = 1000, seconds: float = 60) -> list[Frame]:
    response: Any = Trickle(body, step)
    return list(demultiplex(response, time.monotonic() + seconds))


BODIES: list[tuple[bytes, list[Frame]]] = [
    (b"", []),
    (frame(1, b"t one\n"), [Frame("stdout", b"t one\n")]),
    (frame(2, b"t two\n"), [Frame("stderr", b"t two\n")]),
    (
        frame(1, b"a") + frame(2, b"b") + frame(1, b"c"),
        [Frame("stdout", b"a"), Frame("stderr", b"b"), Frame("stdout", b"c")],
    ),
    (frame(1, b""), [Frame("stdout", b"")]),
    (frame(1, b"x" * 70_000), [Frame("stdout", b"x" * 70_000)]),
    (frame(1, b"\x01\x00\x00\x00\x00\x00\x00\x09"), [Frame("stdout", b"\x01\x00\x00\x00\x00\x00\x00\x09")]),
    (frame(0, b"input") + frame(1, b"a"), [Frame("stdout", b"a")]),
]


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(("body", "frames"), BODIES)
def test_streams_are_told_apart(body: bytes, frames: list[Frame], step: int) -> None:
    assert demultiplexed(body, step) == frames


@pytest.mark.parametrize("size", range(1, 8 + len("cut off")))
def test_a_stream_that_ends_within_a_frame_says_so(size: int) -> None:
    with pytest.raises(EngineUnavailable, match="ended in the middle"):
        demultiplexed(frame(1, b"complete") + frame(1, b"cut off")[:size])


def test_an_error_of_the_engine_within_the_stream() -> None:
    with pytest.raises(EngineUnavailable, match=r"reading logs: node is not available$"):
        demultiplexed(frame(1, b"a") + frame(3, b"node is not available\n"))


def test_a_stream_that_goes_on_too_long() -> None:
    with pytest.raises(EngineUnavailable, match="the time limit has passed"):
        demultiplexed(frame(1, b"a"), seconds=-1)


# -- the stream of events --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_json_lines_come_as_whole_objects(step: int) -> None:
    body: Any = Trickle(b'{"a": 1}\n\r\n{"b": "\xc3\xa9"}\n[]\n{"cut o', step)
    assert list(json_lines(body)) == [{"a": 1}, {"b": "\u00e9"}, []]


def test_events_that_are_silent_are_asked_for_anew_and_an_engine_that_is_gone_is_noticed(tmp_path: Path) -> None:
    fake, event = FakeSwarm(), EngineEvent("remove", "s")
    found: Queue[EngineEvent | Exception] = Queue()

    def follow(swarm: Swarm) -> None:
        try:
            for one in swarm.events():
                found.put(one)
        except EngineUnavailable as error:
            found.put(error)

    with serving(fake, str(tmp_path / "engine.sock")) as host:
        thread = threading.Thread(target=follow, args=[Swarm(host, 5, silence=0.2)], daemon=True)
        thread.start()
        eventually(lambda: fake.calls["events"] >= 3, 20, "the silent stream to be asked for again")
        for listener in list(fake.listeners):
            listener.put(event)
        assert found.get(timeout=20) == event
    error = found.get(timeout=20)
    assert isinstance(error, EngineUnavailable)
    thread.join(20)


def test_a_line_that_is_no_json_counts_as_no_answer() -> None:
    body: Any = Trickle(b"<html>\n", 100)
    with pytest.raises(EngineUnavailable, match=r"^following: its answer is not valid"), mapped("following"):
        list(json_lines(body))


# -- what a registry tells -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platforms", "expected"),
    [
        (None, ()),
        ([], ()),
        ([{"architecture": "amd64", "os": "linux"}] * 2, ("linux/amd64",)),
        ([{"architecture": "arm", "os": "linux", "variant": "v7"}], ("linux/",)),
        ([{"architecture": "arm64", "os": "linux"}, {"architecture": "unknown", "os": "unknown"}], ("linux/arm64",)),
    ],
)
def test_an_images_digest_and_platforms(platforms: Any, expected: tuple[str, ...]) -> None:
    answer = json.dumps({"Descriptor": {"digest": "sha256:1"}, "Platforms": platforms}).encode()
    assert distribution_in(answer) == ("sha256:1", expected)


def test_a_login_is_looked_for_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auths = {"r.example/team": {"auth": base64.b64encode(b"u:p").decode()}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    http = EngineHTTP("unix:///nowhere.sock", 1)
    header = http.credentials("r.example/app:1", "team")["X-Registry-Auth"]
    assert json.loads(base64.urlsafe_b64decode(header))["username"] == "u"
    with pytest.raises(ImageRefused, match=r"is for r\.example, and the image is from evil\.example"):
        http.credentials("evil.example/app:1", "r.example/team")
