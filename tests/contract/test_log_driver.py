"""What the log driver of jobs hands out on a real engine: every byte, over its rotations, and while it is followed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import docker
import pytest

from jaas_submit import JobSpec, LogStatus
from jaas_submit.model.logs import Logs, Stream
from jaas_submit.model.wire_names import LABEL_JOB, LABEL_PREFIX
from jaas_worker.swarm.container_logs import read_logs
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.engine import Frame, TaskView
from jaas_worker.swarm.http import EngineHTTP, demultiplex
from jaas_worker.swarm.log_driver import LogDriver
from jaas_worker.swarm.service_spec import service_request
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE

SMALL_FILES = {"max-size": "200k", "max-file": "100"}
FEW_FILES = {"max-size": "200k", "max-file": "2"}
CAP = 64 * 2**20

ALL_BYTES = r'i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; i=$((i + 1)); done'
NUMBERS = "seq 1 100000"
NUMBERS_WRITTEN = b"".join(b"%d\n" % number for number in range(1, 100_001))
"""588,895 bytes in 100,000 lines, each of which takes some 31 bytes more in the log."""

Run = Callable[..., tuple[str, TaskView]]


@pytest.fixture
def run(swarm: Swarm, prefix: str) -> Run:
    """Creates the service of a job, and waits for its end unless told otherwise; returns its id and task."""

    def create(text: str, driver: str = "local", wanted: str = "complete", **options: str) -> tuple[str, TaskView]:
        spec = JobSpec(
            image=TEST_IMAGE,
            command=["sh", "-c", text],
            log_driver=driver,
            log_options={name.replace("_", "-"): value for name, value in options.items()},
        )
        job_id = str(uuid.uuid4())
        service = swarm.create(service_request(spec, job_id, 1, {LABEL_PREFIX: prefix}, {}))
        assert service is not None

        def found() -> TaskView | None:
            return next((t for t in swarm.all_tasks(f"{LABEL_JOB}={job_id}") if t.state == wanted), None)

        return service.id, eventually(found, 60, lambda: f"a task {wanted}: {swarm.tasks_of(service.id)}")

    return create


def read(swarm: Swarm, service_id: str, asked: str | None, driver: LogDriver) -> Logs:
    """Return the output as a worker reads it, from the container's own engine or through the swarm."""

    class Through(Swarm):
        def logs(
            self, service_id: str, container_id: str | None, timeout: float, tail: int = 0, only: Stream | None = None
        ) -> Iterator[Frame]:
            return swarm.logs(service_id, asked, timeout, tail, only)

    return read_logs(Through(swarm.host), service_id, "any", CAP, 60, driver)


@pytest.mark.parametrize("by_container", [True, False], ids=["container", "service"])
@pytest.mark.parametrize("size", [0, 16383, 16384, 16385, 32768, 40000])
def test_local_hands_out_every_byte(swarm: Swarm, run: Run, size: int, by_container: bool) -> None:
    long_line = f"head -c {size} /dev/zero | tr '\\000' x"
    service_id, task = run(f"{ALL_BYTES}; {long_line}; echo; {long_line}; echo; ({ALL_BYTES}) >&2")
    logs = read(swarm, service_id, task.container_id if by_container else None, LogDriver("local"))
    long = b"x" * size
    assert logs.stderr_bytes == bytes(range(256))
    if size < 16384:
        assert logs.stdout_bytes == bytes(range(256)) + (long + b"\n") * 2
        assert (logs.status, logs.reason) == (LogStatus.COMPLETE, "")
    elif logs.status is LogStatus.COMPLETE:  # a newer engine hands out the last line's end as well
        assert logs.stdout_bytes == bytes(range(256)) + (long + b"\n") * 2
    else:
        assert (logs.status, logs.reason) == (LogStatus.PARTIAL, "a line end may be missing at the end of stdout")
        assert logs.stdout_bytes == bytes(range(256)) + long + b"\n" + long


def test_json_file_replaces_bytes_and_the_status_says_so(swarm: Swarm, run: Run) -> None:
    service_id, task = run(ALL_BYTES, "json-file")
    logs = read(swarm, service_id, task.container_id, LogDriver("json-file"))
    assert logs.stdout_bytes == bytes(range(128)) + "\ufffd".encode() * 128
    assert (logs.status, logs.has_end("stdout")) == (LogStatus.PARTIAL, True)
    assert "may have replaced bytes" in logs.reason


def test_a_driver_that_keeps_nothing_is_unavailable(swarm: Swarm, run: Run) -> None:
    service_id, task = run("echo lost", "none")
    logs = read(swarm, service_id, task.container_id, LogDriver("none"))
    assert (logs.lines, logs.status) == ((), LogStatus.UNAVAILABLE)
    assert "does not support reading" in logs.reason


@pytest.mark.parametrize("by_container", [True, False], ids=["container", "service"])
def test_local_is_read_over_its_rotated_files(swarm: Swarm, run: Run, by_container: bool) -> None:
    service_id, task = run(NUMBERS, max_size="200k", max_file="100")
    driver = LogDriver("local", SMALL_FILES)
    logs = read(swarm, service_id, task.container_id if by_container else None, driver)
    assert logs.stdout_bytes == NUMBERS_WRITTEN
    assert (logs.status, logs.reason) == (LogStatus.COMPLETE, "")


def test_what_local_has_rotated_away_is_not_called_complete(swarm: Swarm, run: Run) -> None:
    service_id, task = run(NUMBERS, max_size="200k", max_file="2")
    logs = read(swarm, service_id, task.container_id, LogDriver("local", FEW_FILES))
    assert NUMBERS_WRITTEN.endswith(logs.stdout_bytes)
    assert 0 < len(logs.stdout_bytes) < len(NUMBERS_WRITTEN)
    assert logs.status is LogStatus.PARTIAL
    assert "may have removed the beginning" in logs.reason
    assert logs.has_end("stdout")


@pytest.mark.parametrize("by_container", [True, False], ids=["container", "service"])
def test_local_is_followed_to_the_byte_where_it_is_not_rotated(swarm: Swarm, run: Run, by_container: bool) -> None:
    """Over a rotation it is not (moby #37646, #39235; measured in docs/guarantees.md), so a log's files are large."""
    parts = "p=0; while [ $p -lt 50 ]; do seq $((p * 2000 + 1)) $((p * 2000 + 2000)); sleep 0.05; p=$((p + 1)); done"
    service_id, task = run(f"{parts}; sleep 2", wanted="running", max_size="100m", max_file="2")
    what = f"containers/{task.container_id}" if by_container else f"services/{service_id}"
    query = {"stdout": "1", "follow": "1", "tail": "all"}
    answer = EngineHTTP(swarm.host, 30).ask("GET", f"{what}/logs", query=query, timeout=30, stream=True)
    seen = b""
    try:
        for frame in demultiplex(answer, time.monotonic() + 90):
            seen += frame.data
            if len(seen) >= len(NUMBERS_WRITTEN):
                break
    finally:
        answer.close()
    assert seen == NUMBERS_WRITTEN


def test_containers_have_the_driver_that_was_asked_for(swarm: Swarm, run: Run) -> None:
    _, task = run("true", max_size="1m", max_file="3")
    config = docker.APIClient(base_url=swarm.host, version="1.41").inspect_container(task.container_id or "")
    assert config["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {"max-size": "1m", "max-file": "3"}}
