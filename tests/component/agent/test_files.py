"""Files of ended containers on their way from the engine to the store: a real Redis, and the engine in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.model.files.listing import MAX_FILES, MAX_LIST_BYTES, OutputFiles
from jaas_submit.model.files.stored_logs import logs_name
from jaas_submit.model.logs import Logs, LogStatus, Stream
from jaas_submit.output import AgentLeases, FilePiece, FileRequest, FileTransfers, release_memory
from jaas_submit.storage.store import Store
from jaas_worker.agent.files.collector import CollectTiming, FileCollector
from jaas_worker.agent.files.selection import Selection
from jaas_worker.agent.files.sender import FileSender
from tests.support.fake_node import FakeNode
from tests.support.wait import eventually

JOB = "6f0d8a52-0000-4000-8000-000000000001"
NODE = "id-of-node1"
MIB = 1024 * 1024


def entry(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", size: int | None = None
) -> bytes:
    """Return an entry of an archive; with a size, its head alone."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data) if size is None else size
    head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return head if size is not None else head + data + bytes(-len(data) % 512)


END = bytes(1024)


@dataclass
class Scene:
    """One node with an agent, and a worker."""

    ledger: Ledger
    folder: Path
    node: FakeNode = field(default_factory=FakeNode)
    limit: int = 10 * MIB
    ours: bool = True

    def __post_init__(self) -> None:
        client, prefix = self.ledger.client, self.ledger.prefix
        self.transfers = FileTransfers(client, prefix)
        self.leases = AgentLeases(client, prefix)
        self.store = Store(f"file://{self.folder}", prefix, lambda: "s")
        self.collector = FileCollector(self.transfers, self.leases, self.store, CollectTiming(0.2, 0.5, 0.01))

    @contextlib.contextmanager
    def agent(self) -> Iterator[None]:
        """Run an agent that hears what workers ask for."""
        ready, closing = threading.Event(), threading.Event()

        async def main() -> None:
            self.node.start(JOB)
            for stream, data in self.printed:
                self.node.write(JOB, stream, data)
            self.node.exit(JOB)
            sender = FileSender(self.node, self.transfers)
            pubsub = self.ledger.client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call] # redis-py leaves it untyped
            pubsub.subscribe(self.transfers.request_channel)
            await asyncio.to_thread(pubsub.get_message, timeout=5)
            for path, pieces in self.archives.items():
                self.node.keep(JOB, path, pieces)
            try:
                async with asyncio.TaskGroup() as group:
                    sender.begin(NODE, "jaas.ledger=l", group.create_task)
                    ready.set()
                    while not closing.is_set():
                        self.leases.take(NODE, "agent")
                        if message := await asyncio.to_thread(pubsub.get_message, timeout=0.05):
                            sender.heard(message["data"].decode())
            finally:
                sender.end()
                pubsub.close()

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        try:
            assert ready.wait(10)
            yield
        finally:
            closing.set()
            thread.join(10)

    archives: dict[str, list[bytes] | Iterator[bytes]] = field(default_factory=dict)
    printed: list[tuple[Stream, bytes]] = field(default_factory=list)

    def request(self, *patterns: str, container: str = "container1") -> FileRequest:
        return FileRequest(JOB, 1, "", NODE, container, patterns, self.limit, MAX_FILES)

    def collect(self, *patterns: str, container: str = "container1", seconds: float = 60.0) -> OutputFiles:
        request = self.request(*patterns, container=container)
        found = self.collector.collect(request, time.monotonic() + seconds, lambda: self.ours)
        assert found is not None
        return found

    def stored(self, number: int) -> bytes:
        return (self.folder / self.ledger.prefix / JOB / f"file-1-{number}").read_bytes()


@pytest.fixture
def scene(ledger: Ledger, tmp_path: Path) -> Scene:
    return Scene(ledger, tmp_path)


def names(found: OutputFiles) -> list[str]:
    return [file.name for file in found.files]


def test_files_arrive_to_the_byte_and_nothing_stays_in_redis(scene: Scene) -> None:
    large = bytes(range(256)) * 4096 * 3
    scene.archives["/out"] = [entry("out", kind=tarfile.DIRTYPE), entry("out/a", large), entry("out/b"), END]
    with scene.agent():
        found = scene.collect("/out/**")
    assert (found.status, found.reason, names(found)) == (LogStatus.COMPLETE, "", ["out/a", "out/b"])
    assert (scene.stored(0), scene.stored(1)) == (large, b"")
    assert (found.stored_by, found.stored_attempt) == (JOB, 1)
    assert list(scene.ledger.client.scan_iter(f"{scene.ledger.prefix}:*files*")) == []


@pytest.mark.parametrize(("limit", "expected"), [(MIB, b"head *** middle ***\ntail hunt"), (16, b"head *** middle ")])
def test_a_stored_output_is_scrubbed(scene: Scene, limit: int, expected: bytes) -> None:
    """Also where a value is cut into pieces, and where the limit cuts it."""
    scene.node.secrets[JOB] = frozenset({b"hunter22"})
    scene.printed = [("stdout", b"head hunter22 middle hunt"), ("stdout", b"er22\n"), ("stdout", b"tail hunt")]
    request = replace(scene.request(), what="output", limit=limit)
    with scene.agent():
        assert scene.collector.collect_output(request, time.monotonic() + 60, lambda: True) == ""
    stored = (scene.folder / scene.ledger.prefix / JOB / logs_name(1)).read_bytes()
    assert Logs.unpack(stored).stdout_bytes == expected


def test_files_that_are_stored_count_though_redis_is_away_afterwards(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(job_id: str, attempt: int) -> None:
        raise LedgerUnavailable("Redis does not answer (test)")

    monkeypatch.setattr(scene.transfers, "drop", drop)
    scene.archives["/out"] = [entry("out/a", b"a"), END]
    with scene.agent():
        found = scene.collect("/out")
    assert (found.status, names(found), scene.stored(0)) == (LogStatus.COMPLETE, ["out/a"], b"a")


def test_hostile_entries_stay_behind(scene: Scene) -> None:
    scene.archives["/out"] = [
        entry("out/../../etc/passwd", b"x"),
        entry("../out/up", b"x"),
        entry("/out/absolute", b"x"),
        entry("out/link", kind=tarfile.SYMTYPE, link="/etc/shadow"),
        entry("out/link/through", b"x"),
        entry("out/hard", kind=tarfile.LNKTYPE, link="out/good"),
        entry("out/null", kind=tarfile.CHRTYPE),
        entry("out/disk", kind=tarfile.BLKTYPE),
        entry("out/pipe", kind=tarfile.FIFOTYPE),
        entry("out/new\nline", b"x"),
        entry("out/\udcff", b"x"),
        entry("out/good", b"good"),
        entry("out/good", b"again"),
        END,
    ]
    with scene.agent():
        found = scene.collect("/out")
    assert names(found) == ["out/absolute", "out/link/through", "out/good"]
    assert found.status is LogStatus.PARTIAL
    assert scene.stored(2) == b"good"
    everything = [path for path in scene.folder.rglob("*") if path.is_file()]
    assert {path.parent for path in everything} == {scene.folder / scene.ledger.prefix / JOB}


def test_many_files_are_a_thousand_and_a_reason_in_little_memory(scene: Scene) -> None:
    scene.archives["/out"] = (
        b"".join(entry(f"out/{number:06}", b"1") for number in range(first, first + 100))
        for first in range(0, 20_000, 100)
    )
    tracemalloc.start()
    with scene.agent():
        found = scene.collect("/out/0*", seconds=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.files) == MAX_FILES
    assert found.status is LogStatus.PARTIAL
    assert "18,997 other files left out" in found.reason
    assert peak < 20 * MIB


def test_the_list_is_bounded_as_the_record_holds_it() -> None:
    selection = Selection(["/out"], MIB, MAX_FILES)
    taken = [f"out/{number}/{chr(0x4E2D) * 80}" for number in range(1000)]
    taken = [name for name in taken if selection.takes(name, tarfile.REGTYPE, 0)]
    assert 300 < len(taken) < 500
    assert len(json.dumps([{"name": name, "size": 0, "sha256": "0" * 64} for name in taken])) <= MAX_LIST_BYTES
    assert "is one file too many" in selection.reason


def test_a_file_over_the_bound_is_passed_by_in_little_memory(scene: Scene) -> None:
    size = 300 * MIB

    def archive() -> Iterator[bytes]:
        yield entry("out/huge", size=size)
        for _ in range(size // MIB):
            yield bytes(MIB)
        yield entry("out/small", b"small") + END

    scene.archives["/out"] = archive()
    tracemalloc.start()
    with scene.agent():
        found = scene.collect("/out", seconds=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert names(found) in ([], ["out/small"])
    assert "out/huge has 314,572,800 bytes, more than is left of the 10,485,760 allowed" in found.reason
    assert peak < 20 * MIB


@pytest.mark.parametrize(
    "pieces",
    [
        [entry("out/a", b"a"), entry("out/grows", size=1000), b"short"],
        [b"no archive" * 100],
        [entry("out/a", b"a")[:300]],
    ],
)
def test_an_archive_that_breaks_each_time_ends_as_unavailable(scene: Scene, pieces: list[bytes]) -> None:
    scene.archives["/out"] = pieces
    with scene.agent():
        found = scene.collect("/out")
    assert (found.status, found.files) == (LogStatus.UNAVAILABLE, ())
    assert scene.node.calls["archive"] == 5


def test_a_container_or_a_folder_that_is_not_there(scene: Scene) -> None:
    with scene.agent():
        gone = scene.collect("/out", container="another")
        empty = scene.collect("/out/*.pdf")
    assert (gone.status, gone.reason) == (LogStatus.UNAVAILABLE, "No such container: another")
    assert (empty.status, empty.reason) == (LogStatus.PARTIAL, "nothing matches /out/*.pdf")


def test_files_of_a_container_of_another_job_or_attempt_are_not_sent(scene: Scene) -> None:
    """Whoever may write to Redis can ask for any container by its id."""
    scene.archives["/etc"] = [entry("etc/shadow", b"secret"), END]
    with scene.agent():
        other = scene.node.start("other").id
        scene.node.exit("other")
        scene.node.keep("other", "/etc", [entry("etc/shadow", b"secret"), END])
        for forged in (
            scene.request("/etc/*", container=other),
            replace(scene.request("/etc/*"), attempt=2),
            replace(scene.request("/etc/*"), container_id="../containers/container1"),
        ):
            found = scene.collector.collect(forged, time.monotonic() + 60, lambda: True)
            assert found is not None
            assert (found.status, found.files) == (LogStatus.UNAVAILABLE, ())
            assert found.reason.startswith("No such container: ")
    assert scene.node.calls["archive"] == 0


def test_a_node_without_an_agent(scene: Scene) -> None:
    found = scene.collect("/out")
    assert found.status is LogStatus.UNAVAILABLE
    assert "no agent follows the containers of its node" in found.reason


def test_a_silent_agent_is_not_waited_for_longer_than_allowed(scene: Scene) -> None:
    scene.leases.take(NODE, "agent")
    found = scene.collect("/out", seconds=0.1)
    assert (found.status, found.reason) == (
        LogStatus.UNAVAILABLE,
        "they did not come in time (JAAS_FILES_TIMEOUT)",
    )


def test_another_holder_is_left_alone(scene: Scene) -> None:
    assert scene.collector.collect(scene.request("/out"), 0.0, lambda: False) is None


def test_what_redis_loses_is_sent_again(scene: Scene) -> None:
    large = bytes(6 * MIB)
    lost = threading.Event()

    def archive() -> Iterator[bytes]:
        yield entry("out/a", size=len(large))
        yield large[: 3 * MIB]
        if not lost.is_set():
            lost.set()
            release_memory(scene.ledger.client, scene.ledger.prefix)
        yield large[3 * MIB :] + END

    class Archive:
        def __iter__(self) -> Iterator[bytes]:
            return archive()

    scene.archives["/out"] = Archive()  # type: ignore[assignment] # read anew by each transfer
    with scene.agent():
        found = scene.collect("/out")
    assert lost.is_set()
    assert (found.status, names(found), scene.stored(0)) == (LogStatus.COMPLETE, ["out/a"], large)


@pytest.mark.parametrize(
    "sent",
    [
        [FilePiece(0, name="etc/shadow", size=1)],
        [FilePiece(0, name="out/../x", size=1)],
        [FilePiece(0, name="out/a", size=11 * MIB)],
        [FilePiece(0, name="out/a", size=-1)],
        [FilePiece(0, name="out/a", size=1), FilePiece(1, b"two")],
        [FilePiece(0, name="out/a", size=1), FilePiece(1, end="complete")],
        [FilePiece(0, b"of no file")],
        [FilePiece(0, b"x" * (300 * 1024))],
        [FilePiece(0, name="out/a", size=0), FilePiece(1, name="out/a", size=0)],
    ],
)
def test_an_agent_that_sends_what_was_not_asked_for_is_not_believed(scene: Scene, sent: list[FilePiece]) -> None:
    done = threading.Event()

    def forge() -> None:
        request = eventually(lambda: scene.transfers.asked(JOB, 1), 10, lambda: "the request")
        for piece in sent:
            scene.transfers.send(request, piece)
        done.set()

    thread = threading.Thread(target=forge)
    thread.start()
    found = scene.collect("/out")
    thread.join()
    assert done.is_set()
    assert (found.status, found.files) == (LogStatus.UNAVAILABLE, ())
    assert "sent what was not asked for" in found.reason


def test_pieces_wait_for_their_worker_and_end_with_its_request(scene: Scene) -> None:
    request = FileRequest(JOB, 1, "token", NODE, "c", ("/out",), MIB, 10)
    assert scene.transfers.asked(JOB, 1) is None
    assert scene.transfers.send(request, FilePiece(0)) is None, "nobody asks"
    scene.transfers.ask(request)
    assert scene.transfers.asked(JOB, 1) == request
    sent = 0
    while scene.transfers.send(request, FilePiece(sent, bytes(200 * 1024))):
        sent += 1
    assert sent == 10
    assert scene.transfers.send(request, FilePiece(3, b"again")), "it was sent before"
    first = scene.transfers.receive(request, 0)
    assert [piece.number for piece in first or ()] == [0, 1, 2, 3, 4]
    assert scene.transfers.receive(request, 0) == first
    assert [piece.number for piece in scene.transfers.receive(request, 5) or ()] == [5, 6, 7, 8, 9]
    assert scene.transfers.send(request, FilePiece(sent, b"there is room again"))
    scene.transfers.ask(FileRequest(JOB, 1, "another", NODE, "c", ("/out",), MIB, 10))
    assert scene.transfers.receive(request, 5) is None
    assert scene.transfers.send(request, FilePiece(sent + 1)) is None
