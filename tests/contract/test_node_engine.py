"""What an agent relies on in a node's engine, pinned on a real one and on the one in memory alike."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import docker
import pytest

from jaas_submit.errors import EngineNotFound, EngineRefused
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_JOB, LABEL_LEDGER
from jaas_worker.agent.kept_output.tally import Message, messages
from jaas_worker.agent.node_engine import DockerNode, NodeEngine
from jaas_worker.agent.usage.counters import Counters
from jaas_worker.decisions.output_proof import began_before
from jaas_worker.decisions.times import parse_time
from tests.support.fake_node import FakeNode
from tests.support.socket_proxy import behind_proxy
from tests.support.wait import until
from tests.support.witness import TEST_IMAGE

BINARY = bytes(range(256)) + b"\n"


class Bench:
    """One node's engine, and containers that print and exit as a test says."""

    def __init__(self, engine: NodeEngine, api: Any) -> None:
        self.engine = engine
        self._api = api
        self._ids: dict[str, str] = {}
        ledger = uuid.uuid4().hex
        self.label = f"{LABEL_LEDGER}={ledger}"
        self._labels = {LABEL_LEDGER: ledger, LABEL_ATTEMPT: "2"}

    def start(self, job_id: str, driver: str = "local") -> str:
        """Start a container; it waits for ``write`` and ``exit``."""
        if isinstance(self.engine, FakeNode):
            return self.engine.start(job_id, 2, driver).id
        script = 'while read -r what rest; do case $what in exit) exit $rest;; *) printf "$rest" >&$what;; esac; done'
        made = self._api.create_container(
            TEST_IMAGE,
            ["sh", "-c", script],
            stdin_open=True,
            labels={**self._labels, LABEL_JOB: job_id},
            host_config=self._api.create_host_config(log_config={"Type": driver, "Config": {}}, network_mode="none"),
        )
        self._ids[job_id] = made["Id"]
        self._stdin = self._api.attach_socket(made["Id"], {"stdin": 1, "stream": 1})
        self._api.start(made["Id"])
        return str(made["Id"])

    def write(self, job_id: str, stream: str, data: bytes) -> None:
        if isinstance(self.engine, FakeNode):
            self.engine.write(job_id, "stdout" if stream == "stdout" else "stderr", data)
            return
        octal = "".join(f"\\{byte:03o}" for byte in data)
        self._send(f"{1 if stream == 'stdout' else 2} {octal}\n")

    def exit(self, job_id: str, code: int) -> None:
        if isinstance(self.engine, FakeNode):
            self.engine.exit(job_id, code)
        else:
            self._send(f"exit {code}\n")

    async def has_exited(self, container_id: str) -> None:
        """Wait until the engine says so."""
        if not isinstance(self.engine, FakeNode):
            await asyncio.to_thread(self._api.wait, container_id, timeout=30)

    def keep(self, job_id: str, path: str, data: bytes) -> None:
        """Let a container have a file."""
        folder, _, name = path.rpartition("/")
        for inside, place in ((name, path), (f"{folder.rpartition('/')[2]}/{name}", folder)):
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as archive:
                entry = tarfile.TarInfo(inside)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
            if isinstance(self.engine, FakeNode):
                self.engine.keep(job_id, place, [packed.getvalue()])
            elif place == path:
                assert self._api.put_archive(self._ids[job_id], folder, packed.getvalue())

    def remove(self, job_id: str) -> None:
        if isinstance(self.engine, FakeNode):
            self.engine.remove(job_id)
        else:
            self._api.remove_container(self._ids.pop(job_id), force=True)

    def _send(self, text: str) -> None:
        os.write(self._stdin.fileno(), text.encode())

    def close(self) -> None:
        for job_id in list(self._ids):
            self.remove(job_id)


@pytest.fixture(params=["fake", *(pytest.param(one, marks=pytest.mark.engine) for one in ("real", "proxied"))])
def run(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[Callable[[Bench], Awaitable[None]]], None]]:
    """Run a story on an engine: in memory, a real one, or that behind `jaas socket-proxy`."""
    host = request.getfixturevalue("_engine") if request.param != "fake" else ""
    asked = [host]

    def play(story: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            api = docker.APIClient(base_url=host, version="auto") if host else None
            bench = Bench(DockerNode(asked[-1]) if host else FakeNode(), api)
            try:
                async with asyncio.timeout(60):
                    await story(bench)
            finally:
                bench.close()
                await bench.engine.close()
                if api:
                    api.close()

        asyncio.run(main())

    if request.param != "proxied":
        yield play
        return
    with behind_proxy(host, tmp_path) as address:
        asked.append(address)
        yield play


async def read(
    bench: Bench, container_id: str, *, follow: bool = False, since: str = "", tail: int = 0
) -> list[Message]:
    found: list[Message] = []
    async with aclosing(bench.engine.output(container_id, follow=follow, since=since, tail=tail)) as output:
        async for frames in output:
            found += messages(frames)
    return found


Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def test_output_is_followed_until_the_exit_and_is_there_afterwards_byte_for_byte(run: Run) -> None:
    async def story(bench: Bench) -> None:
        container_id = bench.start("j")
        following = asyncio.ensure_future(read(bench, container_id, follow=True))
        bench.write("j", "stdout", BINARY)
        bench.write("j", "stderr", b"error\n")
        bench.exit("j", 3)
        found = await following
        for stream, data in (("stdout", BINARY), ("stderr", b"error\n")):
            assert b"".join(message.data for message in found if message.stream == stream) == data
        times = [message.time for message in found if message.stream == "stdout"]
        assert times == sorted(times)
        assert {len(time) for time in times} == {30}
        key = sorted(found)
        assert sorted(await read(bench, container_id)) == key
        assert sorted(await read(bench, container_id, follow=True)) == key
        assert await read(bench, container_id, since="4000000000.000000") == []
        ordered = await read(bench, container_id)
        assert await read(bench, container_id, since="1000000000.000000", tail=2) == ordered[-2:]
        assert sorted(await read(bench, container_id, since="1000000000.000000")) == key

    run(story)


def test_what_is_known_of_a_container(run: Run) -> None:
    async def story(bench: Bench) -> None:
        container_id = bench.start("j")
        started = await bench.engine.started_at()
        assert not began_before((await bench.engine.inspect(container_id)).started_at, started)
        if isinstance(bench.engine, DockerNode):
            assert parse_time(started) is not None
        assert (await bench.engine.info()).node_id
        running = await bench.engine.inspect(container_id)
        assert (running.running, running.exit_code, running.log_driver) == (True, None, "local")
        bench.exit("j", 3)
        await read(bench, container_id, follow=True)

        while (await bench.engine.inspect(container_id)).running:
            pass  # each look waits for the engine; the test's time-out ends it
        facts = await bench.engine.inspect(container_id)
        assert (facts.exit_code, facts.oom_killed) == (3, False)
        assert facts.started_at < facts.finished_at
        (listed,) = await bench.engine.containers(bench.label)
        assert (listed.id, listed.job_id, listed.attempt) == (container_id, "j", 2)

    run(story)


def test_what_a_container_uses_is_known_while_it_runs(run: Run) -> None:
    async def story(bench: Bench) -> None:
        container_id = bench.start("j")
        running = await bench.engine.inspect(container_id)
        at, used = await bench.engine.usage(container_id)
        assert abs(at - time.time()) < 60
        if not isinstance(bench.engine, FakeNode):
            assert running.pid > 0
            assert not running.host_network
            assert used.cpu_seconds
            assert used.memory
        bench.exit("j", 0)
        while (await bench.engine.inspect(container_id)).running:
            pass  # each look waits for the engine; the test's time-out ends it
        assert (await bench.engine.inspect(container_id)).pid == 0
        assert (await bench.engine.usage(container_id))[1] == Counters()

    run(story)


def test_what_is_known_of_a_node(run: Run) -> None:
    async def story(bench: Bench) -> None:
        images = await bench.engine.images()
        if not isinstance(bench.engine, FakeNode):
            assert TEST_IMAGE in images
            assert (await bench.engine.data_root()).startswith("/")

    run(story)


def test_a_container_that_is_not_known(run: Run) -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(EngineNotFound):
            await bench.engine.inspect("unknown")
        with pytest.raises(EngineNotFound):
            await read(bench, "unknown")

    run(story)


def test_a_driver_that_cannot_be_read_refuses(run: Run) -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(EngineRefused, match="does not support reading"):
            await read(bench, bench.start("j", "none"))

    run(story)


def test_events_tell_of_start_exit_and_removal(run: Run) -> None:
    async def story(bench: Bench) -> None:
        told: list[Any] = []

        async def listen() -> None:
            async with aclosing(bench.engine.events(bench.label)) as events:
                async for event in events:
                    told.append(event)  # noqa: PERF401 (they are looked at while they arrive)

        listening = asyncio.ensure_future(listen())
        await until(lambda: told == [None], what="the engine to answer")
        container_id = bench.start("j")
        bench.exit("j", 7)
        await until(lambda: len(told) == 3, what="the exit")
        bench.remove("j")
        await until(lambda: len(told) == 4, what="the removal")
        listening.cancel()
        kinds = [(event.kind, event.container.id, event.exit_code) for event in told[1:]]
        assert kinds == [("start", container_id, None), ("die", container_id, 7), ("destroy", container_id, None)]
        assert told[2].at >= told[1].at > 1e9

    run(story)


async def archived(bench: Bench, container_id: str, path: str) -> dict[str, bytes]:
    """Return the plain files of an archive."""
    packed = io.BytesIO()
    async with aclosing(bench.engine.archive(container_id, path)) as pieces:
        async for piece in pieces:
            packed.write(piece)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        return {one.name: found.read() for one in archive if one.isreg() and (found := archive.extractfile(one))}


def test_the_archive_of_a_file_and_of_its_folder_after_the_exit(run: Run) -> None:
    async def story(bench: Bench) -> None:
        container_id = bench.start("j")
        bench.keep("j", "/tmp/a.bin", BINARY * 1000)
        bench.exit("j", 0)
        await bench.has_exited(container_id)
        assert await archived(bench, container_id, "/tmp/a.bin") == {"a.bin": BINARY * 1000}
        assert (await archived(bench, container_id, "/tmp"))["tmp/a.bin"] == BINARY * 1000
        for wrong in (container_id, "no-such-container"):
            with pytest.raises(EngineNotFound):
                await archived(bench, wrong, "/nowhere/x")

    run(story)
