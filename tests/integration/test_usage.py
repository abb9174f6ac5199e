"""What jobs use, measured on a real engine."""

from __future__ import annotations

import asyncio
import http.server
import ipaddress
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from jaas_submit import Client, JobResult, Usage, Used
from jaas_worker.agent.node_engine import DockerNode
from jaas_worker.agent.usage.counters import of_engine
from jaas_worker.agent.usage.meter import Pace, UsageMeter
from tests.support.jobs import BURN, LONG, container_of, ended, seconds_in, shell
from tests.support.wait import eventually, until
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left", "worker")]

MIB = 2**20


def finished(client: Client, text: str) -> tuple[JobResult, Usage]:
    result = ended(client, client.submit(shell(text)).id)
    assert result.ok
    assert result.usage is not None
    return result, result.usage


def test_processor_time_is_what_the_program_used_and_what_the_engine_says(
    client: Client, docker_api: docker.APIClient
) -> None:
    handle = client.submit(shell(f"{BURN}; sleep 60", reservations={"cpus": 0.1, "memory": "8M"}))
    container = container_of(docker_api, handle.id)
    eventually(lambda: docker_api.logs(container).count(b"\n") == 2, LONG, "the shell's times")
    told = of_engine(docker_api.stats(container, stream=False, one_shot=True))
    docker_api.kill(container)
    result = ended(client, handle.id)
    assert result.usage is not None
    assert result.usage.cpu_seconds == pytest.approx(told.cpu_seconds, rel=0.1)
    assert result.usage.cpu_seconds == pytest.approx(seconds_in(result.stdout), rel=0.1)
    assert result.usage.peak_memory == pytest.approx(told.peak_memory, rel=0.1)
    assert (result.usage.reserved_cpus, result.usage.reserved_memory) == (0.1, 8 * MIB)
    assert result.usage.sample_age is not None
    assert len(result.usage.series) > 2


def test_peak_memory_is_what_the_program_took(client: Client) -> None:
    _, usage = finished(client, "dd if=/dev/zero of=/dev/null bs=100M count=1; sleep 2")
    assert usage.peak_memory == pytest.approx(100 * MIB, rel=0.1)


def test_bytes_of_block_devices_are_those_that_reached_them(client: Client) -> None:
    write, read = "dd if=/dev/zero of=/f bs=1M count=64 conv=fsync", "dd if=/f of=/dev/null bs=1M count=32 iflag=direct"
    _, usage = finished(client, f"{write}; {read}; sleep 2")
    assert usage.written_bytes == pytest.approx(64 * MIB, rel=0.1)
    assert usage.read_bytes == pytest.approx(32 * MIB, rel=0.1)


@pytest.fixture
def pages(docker_api: docker.APIClient, tmp_path: Path) -> Iterator[str]:
    """The URL of a web server that a container reaches; it has a page of 20 MiB."""
    (tmp_path / "page").write_bytes(bytes(20 * MIB))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, request: socketserver.BaseRequestHandler, address: object, server: object) -> None:
            super().__init__(request, address, server, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Be silent."""

    net = ipaddress.ip_network(docker_api.inspect_network("bridge")["IPAM"]["Config"][0]["Subnet"])
    gateway = str(next(net.hosts()))
    with http.server.ThreadingHTTPServer((gateway, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{gateway}:{server.server_address[1]}/page"
        server.shutdown()
        thread.join(LONG)


def test_bytes_of_the_network_are_those_that_were_received(client: Client, pages: str) -> None:
    _, usage = finished(client, f"wget -q -O /dev/null {pages}; sleep 2")
    assert usage.received_bytes == pytest.approx(20 * MIB, rel=0.1)
    assert usage.sent_bytes
    assert usage.sent_bytes < 2 * MIB


def test_twenty_short_jobs_have_their_times_and_no_usage_of_zero(client: Client) -> None:
    handles = [client.submit(shell("exit 0")) for _ in range(20)]
    for handle in handles:
        result = ended(client, handle.id)
        assert result.started_at is not None
        assert result.finished_at is not None
        assert result.duration is not None
        assert result.usage is None or result.usage.cpu_seconds


class _Elsewhere(DockerNode):
    """An engine whose machine this process does not see, as an agent in a container."""

    @property
    def is_here(self) -> bool:
        return False


def test_an_agent_that_sees_no_cgroups_asks_the_engine(docker_api: docker.APIClient, jaas: Installation) -> None:
    config = docker_api.create_host_config(network_mode="none")
    made = docker_api.create_container(TEST_IMAGE, ["sh", "-c", f"{BURN}; sleep 600"], host_config=config)["Id"]

    def printed() -> str:
        return str(docker_api.logs(made).decode())

    async def measure() -> Used:
        engine = _Elsewhere(jaas.engine_host)
        meter, exited = UsageMeter(engine, made, Pace()), asyncio.Event()
        measuring = asyncio.create_task(meter.run(exited))
        await until(lambda: printed().count("\n") == 2, LONG, "the shell's times")
        enough = 0.95 * seconds_in(printed())
        await until(lambda: (meter.used("") or {}).get("cpu_seconds", 0) > enough, LONG, "a sample after that")
        await asyncio.to_thread(docker_api.kill, made)
        exited.set()
        await measuring
        facts = await engine.inspect(made)
        await engine.close()
        return Used.model_validate(meter.used(facts.finished_at))

    try:
        docker_api.start(made)
        used = asyncio.run(measure())
        seconds = seconds_in(printed())
    finally:
        docker_api.remove_container(made, force=True)
    assert used.cpu_seconds == pytest.approx(seconds, rel=0.1)
    assert used.peak_memory
    assert used.sample_age is not None
    assert used.received_bytes is None
