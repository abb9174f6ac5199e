"""What an agent reports of its node's containers, and what it outlasts: a real Redis, and the engine in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from jaas_submit.errors import LedgerUnavailable
from jaas_submit.ledger import Ledger
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.logs import Logs
from jaas_submit.model.usage.used import Used
from jaas_submit.nodes.facts import NodeFacts
from jaas_submit.output import READING, FeedEnd, Gap, Piece, WholeOutput
from jaas_worker.agent.agent import NodeAgent
from jaas_worker.agent.process_identity import ProcessIdentity
from jaas_worker.agent.redis_calls import RedisCalls
from jaas_worker.agent.swarm_feeds import RunningService, SwarmFeeds
from jaas_worker.agent.timing import Timing
from jaas_worker.agent.usage.counters import Counters
from jaas_worker.swarm.engine import Frame
from tests.support.fake_node import FakeNode
from tests.support.wait import until

HOLDER = "somebody"
CAP = 1000
QUICK = Timing(0.02, 0.02, 0.1, 5.0, 0.5, (0.02,), 0.05, 0.01)._replace(facts=0.05)

Story = Callable[["Scene"], Coroutine[Any, Any, None]]


class Scene:
    """One node, its agent, and Redis."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.node = FakeNode()
        self.calls = RedisCalls(ledger.client, ledger.prefix, QUICK)
        self.held: set[str] = set()
        self.timing = QUICK

    def agent(self, name: str = "agent") -> NodeAgent:
        return NodeAgent(self.node, self.calls, CAP, name, "1", self.held.__contains__, self.timing)

    @asynccontextmanager
    async def following(self, name: str = "agent") -> AsyncIterator[NodeAgent]:
        """Run an agent; at the end it is told to stop."""
        agent, before = self.agent(name), self.node.calls["containers"]
        task = asyncio.ensure_future(agent.run())
        try:
            await until(lambda: self.node.calls["containers"] > before, what="the agent to follow the node")
            yield agent
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def whole(self, job_id: str, attempt: int = 1) -> WholeOutput:
        return await until(lambda: self.calls.outputs.get(job_id, attempt), what=f"the output of {job_id}")

    async def read(self, feed: str) -> tuple[dict[str, bytes], FeedEnd]:
        """Return all of a feed, after its end."""

        def end() -> FeedEnd | None:
            view = self.calls.feeds.read(feed)
            return view.end if view else None

        told = await until(end, what="the feed's end")
        view = self.calls.feeds.read(feed)
        assert view is not None
        found = {"stdout": b"", "stderr": b""}
        for piece in view.pieces:
            assert isinstance(piece, Piece), piece
            assert piece.offset == len(found[piece.stream])
            found[piece.stream] += piece.data
        return found, told


@pytest.fixture
def play(ledger: Ledger) -> Callable[[Story], None]:
    """Run a story with an agent, whose pauses are short."""

    def run(story: Story) -> None:
        async def main() -> None:
            scene = Scene(ledger)
            try:
                async with asyncio.timeout(60):
                    await story(scene)
            finally:
                scene.calls.close()

        asyncio.run(main())

    return run


def printed(whole: WholeOutput) -> tuple[bytes, bytes]:
    logs = Logs.unpack(whole.logs)
    return logs.stdout_bytes, logs.stderr_bytes


def test_what_a_container_printed_is_there_to_the_byte(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        binary = bytes(range(256))
        async with scene.following():
            ref = scene.node.start("j")
            scene.node.write("j", "stdout", binary)
            scene.node.write("j", "stderr", b"half a ch\xc3", b"\xa4racter\n")
            scene.node.exit("j", 4)
            whole = await scene.whole("j")
        assert printed(whole) == (binary, "half a ch\xe4racter\n".encode())
        assert (whole.container_id, whole.status, whole.reason) == (ref.id, "complete", "")
        assert (whole.stdout, whole.stdout_sha256) == (256, hashlib.sha256(binary).hexdigest())
        assert whole.started_at < whole.finished_at
        assert whole.oom_killed is False

    play(story)


def test_of_a_large_output_the_first_and_the_last_bytes_are_kept(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        lines = [f"{number:9}\n".encode() for number in range(1000)]
        async with scene.following():
            scene.node.start("j")
            for line in lines:
                scene.node.write("j", "stdout", line)
            scene.node.exit("j")
            whole = await scene.whole("j")
        assert printed(whole)[0] == b"".join(lines[:50] + lines[-50:])
        assert (whole.status, whole.reason, whole.stdout) == ("truncated", "9,000 bytes of stdout cut", 10_000)
        assert whole.stdout_sha256 == hashlib.sha256(b"".join(lines)).hexdigest()

    play(story)


@pytest.mark.parametrize(
    ("removed", "status", "gaps"),
    [
        (0, "truncated", [("stdout", 19_000, True)]),
        (300, "partial", [("stderr", 0, False), ("stdout", 16_500, False)]),
    ],
    ids=["all is there", "the engine has removed unread output"],
)
def test_a_container_that_prints_fast_is_read_to_its_end_after_the_exit(
    removed: int, status: str, gaps: list[tuple[str, int, bool]], play: Callable[[Story], None]
) -> None:
    """Its head is read while it runs; meanwhile the engine may remove what was not read."""

    async def story(scene: Scene) -> None:
        scene.timing = QUICK._replace(live_rate=1024.0, slow_read=60.0)
        lines = [f"{number:9}\n".encode() for number in range(2000)]
        async with scene.following():
            ref = scene.node.start("j", 1, "local", **{"max-size": "10k", "max-file": "2"})
            for line in lines[:1000]:
                scene.node.write("j", "stdout", line)
            await until(lambda: scene.node.handed_out[ref.id], what="the agent to read")
            read = scene.node.handed_out[ref.id]
            for line in lines[1000:]:
                scene.node.write("j", "stdout", line)
            assert 0 < read < 100, "it reads no more for now"
            scene.node.forget_beginning("j", removed)
            scene.node.exit("j")
            whole = await scene.whole("j")
        assert printed(whole)[0].endswith(b"".join(lines[-50:]))
        assert whole.status == status
        assert sorted((gap.stream, gap.missing, gap.exact) for gap in Logs.unpack(whole.logs).gaps) == gaps

    play(story)


@pytest.mark.parametrize(
    ("last", "expected", "status", "gaps"),
    [
        (20, 20, "partial", [("stderr", 0, False), ("stdout", 0, False)]),
        (1000, 50, "partial", [("stderr", 0, False), ("stdout", 9_500, False)]),
        (2000, 50, "truncated", [("stdout", 19_000, True)]),  # it reaches back to what was read
    ],
)
def test_where_there_is_no_time_for_the_rest_the_end_of_an_output_is_read(
    last: int, expected: int, status: str, gaps: list[tuple[str, int, bool]], play: Callable[[Story], None]
) -> None:
    """What is between is missing, and nothing is shown as if it followed on something else."""

    async def story(scene: Scene) -> None:
        scene.timing = QUICK._replace(live_rate=1024.0, slow_read=60.0, rest=0.0, last_messages=last)
        lines = [f"{number:9}\n".encode() for number in range(2000)]
        async with scene.following():
            ref = scene.node.start("j")
            for line in lines:
                scene.node.write("j", "stdout", line)
            await until(lambda: scene.node.handed_out[ref.id], what="the agent to read")
            read = scene.node.handed_out[ref.id]
            scene.node.exit("j")
            whole = await scene.whole("j")
        found = Logs.unpack(whole.logs)
        assert read < 50
        assert (whole.status, [(gap.stream, gap.missing, gap.exact) for gap in found.gaps]) == (status, gaps)
        assert ("there was no time to read what is in between" in whole.reason) is (status == "partial")
        head, tail = (part for part in found.parts("stdout") if isinstance(part, bytes))
        assert b"".join(lines).startswith(head)
        assert tail == b"".join(lines[-expected:])

    play(story)


def test_the_last_lines_of_a_container_that_prints_fast_are_its_last(play: Callable[[Story], None]) -> None:
    """How many bytes are there already is not known of it."""

    async def story(scene: Scene) -> None:
        scene.timing = QUICK._replace(live_rate=1024.0)
        lines = [f"{number:9}\n".encode() for number in range(1000)]
        async with scene.following() as agent:
            ref = scene.node.start("j")
            for line in lines:
                scene.node.write("j", "stdout", line)
            await until(lambda: scene.node.handed_out[ref.id], what="the agent to read")
            wanted = scene.calls.feeds.watch("j", 1, tail=2)
            agent.watched(f"j {wanted.feed}")

            def begun() -> list[bytes]:
                view = scene.calls.feeds.read(wanted.feed)
                return [piece.data for piece in view.pieces if isinstance(piece, Piece)] if view else []

            assert await until(begun, what="the last lines") == lines[-2:]

    play(story)


def test_an_agent_that_comes_later_finds_what_it_missed(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        for job in ("ran", "runs"):
            scene.node.start(job)
            scene.node.write(job, "stdout", b"before\n")
        scene.node.exit("ran")
        async with scene.following():
            assert printed(await scene.whole("ran"))[0] == b"before\n"
            scene.node.write("runs", "stdout", b"after\n")
            scene.node.exit("runs")
            assert printed(await scene.whole("runs"))[0] == b"before\nafter\n"

    play(story)


@pytest.mark.parametrize("rotated", [False, True])
def test_after_an_outage_of_the_engine_nothing_is_missing(rotated: bool, play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        node = scene.node
        wanted = scene.calls.feeds.watch("j", 1)
        async with scene.following():
            node.start("j")
            node.write("j", "stdout", b"one\n")
            node.write("j", "stderr", b"long", b"long", b"end\n")
            await until(lambda: scene.calls.feeds.wanted(["j"])["j"][0].stderr == 12, what="the feed to be written")
            node.cut()
            node.write("j", "stdout", b"two\n")
            if rotated:
                node.forget_beginning("j", 5)
                node.write("j", "stdout", b"two\n")
            node.away = False
            node.write("j", "stderr", b"three\n")
            node.exit("j")
            whole = await scene.whole("j")
            assert printed(whole) == (b"one\ntwo\n", b"longlongend\nthree\n")
            assert whole.status == ("partial" if rotated else "complete")
            assert ("unknown number" in whole.reason) is rotated
            found, end = await scene.read(wanted.feed)
            assert (found["stdout"], found["stderr"]) == printed(whole)
            assert end.status == whole.status

    play(story)


def test_lines_are_there_while_the_container_runs_for_any_number_of_watchers(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        feeds = scene.calls.feeds
        early = feeds.watch("j", 1)
        async with scene.following() as agent:
            scene.node.start("j")
            scene.node.write("j", "stdout", b"first\n")
            await until(lambda: feeds.wanted(["j"])["j"][0].stdout == 6, what="the first line")
            assert feeds.watch("j", 1).feed == early.feed
            late = feeds.watch("j", 1, tail=1)
            scene.node.write("j", "stdout", b"second\n")
            await until(lambda: feeds.wanted(["j"])["j"][0].stdout == 13, what="the second line")
            agent.watched(f"j {late.feed}")

            def begun() -> bool:
                view = feeds.read(late.feed)
                return view is not None and bool(view.pieces)

            await until(begun, what="the late watcher's line")
            scene.node.write("j", "stdout", b"third\n")
            scene.node.exit("j")
            found, end = await scene.read(early.feed)
            assert found["stdout"] == b"first\nsecond\nthird\n"
            assert (end.status, end.stdout) == ("complete", 19)
            view = feeds.read(late.feed)
            assert view is not None
            assert [p.data for p in view.pieces if not isinstance(p, Gap)] == [b"second\n", b"third\n"]

    play(story)


@pytest.mark.parametrize("agent", [False, True])
def test_of_a_node_without_an_agent_the_holder_writes_the_feed(agent: bool, play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        feeds, node = scene.calls.feeds, scene.node
        runs: dict[str, RunningService] = {}
        held: set[str] = set()  # a job may be watched before it is this worker's
        writer = SwarmFeeds(node, scene.calls, HOLDER, held.__contains__, runs.get, QUICK)
        task = asyncio.ensure_future(writer.run())
        if agent:
            scene.calls.leases.take("there", "its agent")
        wanted, other = feeds.watch("j", 1), feeds.watch("k", 1)
        for one in (wanted, other):
            writer.watched(f"{one.feed.partition('.')[0]} {one.feed}")
        held.add("j")
        ref = node.start("j")
        node.write("j", "stdout", b"one\n")
        runs["j"] = runs["k"] = RunningService(ref.service_id, 1, "there")
        if agent:
            await until(lambda: node.calls["follow"] or scene.calls.leases.release("there", "its agent"), what="a look")
        await until(lambda: feeds.wanted(["j"])["j"][0].stdout == 4, what="the first line")
        node.write("j", "stdout", b"two\n")
        node.exit("j")
        await until(lambda: feeds.wanted(["j"])["j"][0].stdout == 8, what="the second line")
        runs.clear()
        found, end = await scene.read(wanted.feed)
        assert found["stdout"] == b"one\ntwo\n"
        assert end.status == "unavailable", "the rest is in the ledger, with its status"
        assert feeds.wanted(["k"])["k"][0].stdout == 0
        task.cancel()

    play(story)


def test_another_agent_goes_on_with_a_feed_where_the_first_one_stopped(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        wanted = scene.calls.feeds.watch("j", 1)
        scene.node.start("j")
        async with scene.following("one"):
            scene.node.write("j", "stdout", b"one\n")
            await until(lambda: scene.calls.feeds.wanted(["j"])["j"][0].stdout == 4, what="the first line")
        scene.node.write("j", "stdout", b"two\n")
        async with scene.following("two"):
            scene.node.write("j", "stdout", b"three\n")
            scene.node.exit("j")
            found, end = await scene.read(wanted.feed)
        assert found["stdout"] == b"one\ntwo\nthree\n"
        assert end.status == "complete"

    play(story)


def test_one_process_follows_a_node_at_a_time(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        async with scene.following("one"):
            second = asyncio.ensure_future(scene.agent("two").run())
            await until(lambda: scene.node.calls["info"] > 5, what="the second to try")
            lease = scene.calls.leases.get("id-of-node1")
            assert lease is not None
            assert lease.holder == "one"
            assert scene.node.calls["containers"] == 1
        await until(lambda: scene.node.calls["containers"] == 2, what="the second to take over")
        second.cancel()

    play(story)


@pytest.mark.parametrize("ended", ["process", "container"])
def test_the_lease_of_a_process_that_has_ended_is_taken_over_at_once(ended: str, play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        scene.node.host = "0123456789ab"
        scene.node.start("former agent")
        former = ProcessIdentity.own()
        if ended == "process":
            former = former._replace(started="1")
        else:
            former = former._replace(namespace="pid:[1]", host=scene.node.host)
        scene.calls.leases.take("id-of-node1", "former", process=str(former))
        agent = asyncio.ensure_future(scene.agent().run())
        if ended == "container":
            await until(lambda: scene.node.calls["inspect"] > 2, what="the engine to be asked for the container")
            lease = scene.calls.leases.get("id-of-node1")
            assert lease
            assert lease.holder == "former", "its container runs"
            scene.node.exit("former agent", 137)
        await until(lambda: scene.node.calls["containers"], what="the agent to follow the node")
        lease = scene.calls.leases.get("id-of-node1")
        assert lease
        assert (lease.holder, lease.process) == ("agent", str(ProcessIdentity.own()))
        agent.cancel()

    play(story)


def test_events_that_stay_silent_are_asked_for_anew_and_exits_are_found(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        scene.timing = QUICK._replace(events=0.2)
        scene.node.deaf = True
        scene.node.silent_end = True
        async with scene.following():
            scene.node.start("j")
            scene.node.write("j", "stdout", b"all\n")
            await until(lambda: scene.node.calls["follow"], what="the container to be found without its event")
            scene.node.exit("j", 1)
            whole = await scene.whole("j")
        assert (printed(whole)[0], whole.status) == (b"all\n", "complete")

    play(story)


@pytest.mark.parametrize("code", [137, 1])
def test_an_engine_may_tell_of_memory_after_the_output_has_been_read(code: int, play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        scene.timing = scene.timing._replace(exit_report=30)
        async with scene.following():
            scene.node.start("j")
            scene.node.limit_memory("j")
            reads = scene.node.calls["started_at"]
            scene.node.exit("j", code, told=False)
            await until(lambda: scene.node.calls["started_at"] > reads, what="the agent to read the output")
            scene.node.kill_child("j")
            scene.node.tell_exit("j")
            assert (await scene.whole("j")).oom_killed is True

    play(story)


@pytest.mark.parametrize(("code", "oom", "child"), [(137, True, False), (1, False, True), (0, False, False)])
def test_memory_that_ran_out_is_told_of_the_container_and_of_a_child(
    code: int, oom: bool, child: bool, play: Callable[[Story], None]
) -> None:
    async def story(scene: Scene) -> None:
        async with scene.following():
            scene.node.start("j")
            if child:
                scene.node.kill_child("j")
            scene.node.exit("j", code, oom=oom)
            assert (await scene.whole("j")).oom_killed is (oom or child)

    play(story)


@pytest.mark.parametrize(("code", "told", "heard"), [(137, True, True), (137, False, False), (1, True, None)])
def test_of_a_killed_container_it_says_whether_the_engine_told_of_the_exit(
    code: int, told: bool, heard: bool | None, play: Callable[[Story], None]
) -> None:
    async def story(scene: Scene) -> None:
        async with scene.following():
            scene.node.start("j")
            scene.node.exit("j", code, told=told)
            assert (await scene.whole("j")).heard is heard

    play(story)


def test_a_log_that_cannot_be_read_is_unavailable(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        async with scene.following():
            scene.node.start("j", driver="none")
            scene.node.exit("j")
            whole = await scene.whole("j")
        assert (whole.status, whole.stdout_sha256) == ("unavailable", "")
        assert "does not support reading" in whole.reason

    play(story)


def test_output_of_an_engine_that_was_restarted_meanwhile_is_partial(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        async with scene.following():
            scene.node.start("j")
            scene.node.write("j", "stdout", b"some\n")
            scene.node.cut()
            scene.node.started = "2100-01-01T00:00:00Z"
            scene.node.exit("j", told=False)
            scene.node.away = False
            whole = await scene.whole("j")
        assert (printed(whole)[0], whole.status) == (b"some\n", "partial")
        assert whole.reason == "its engine was restarted while it ran, and may have lost output"

    play(story)


def test_bytes_that_a_driver_may_have_replaced_make_it_partial(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        async with scene.following():
            for job, driver in (("text", "json-file"), ("bytes", "local")):
                scene.node.start(job, driver=driver)
                scene.node.write(job, "stdout", "\ufffd\n".encode())
                scene.node.exit(job)
            assert (await scene.whole("text")).status == "partial"
            assert (await scene.whole("bytes")).status == "complete"

    play(story)


def test_an_output_that_does_not_end_is_given_up_after_the_exit(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        scene.node.silent_end = True
        async with scene.following():
            scene.node.start("j")
            scene.node.write("j", "stdout", b"all\n")
            scene.node.exit("j")
            whole = await scene.whole("j")
        assert (printed(whole)[0], whole.status) == (b"all\n", "complete")

    play(story)


def test_the_holder_is_told_of_an_end_when_the_output_is_there(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        ledger = scene.ledger
        ledger.submission.create("j", JobSpec(image="a"), "q")
        ledger.maintenance.renew_lease(HOLDER, 60, {})
        ledger.ownership.claim("j", HOLDER)
        with ledger.ownership.exits() as told:
            async with scene.following():
                ref = scene.node.start("j")
                scene.node.exit("j", 3)
                text = await until(lambda: told.next(0.01), what="the notice")
                assert scene.calls.outputs.get("j", 1) is not None
        event = json.loads(text)
        assert (event["kind"], event["container_id"], event["service_id"]) == ("die", ref.id, ref.service_id)
        assert event["exit_code"] == 3
        assert abs((datetime.now(UTC) - datetime.fromisoformat(event["at"])).total_seconds()) < 60

    play(story)


def test_while_a_large_output_is_read_after_the_exit_its_worker_is_told_so(
    play: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(scene: Scene) -> None:
        gate, output = asyncio.Event(), scene.node.output

        async def slow(container_id: str, *, follow: bool, **options: Any) -> AsyncIterator[list[Frame]]:
            async for frames in output(container_id, follow=follow, **options):
                yield frames
            if not follow:
                await gate.wait()

        monkeypatch.setattr(scene.node, "output", slow)
        async with scene.following():
            scene.node.start("j")
            scene.node.write("j", "stdout", b"all\n")
            scene.node.exit("j")
            assert (await scene.whole("j")).status == READING
            gate.set()
            outputs = scene.calls.outputs
            await until(lambda: (one := outputs.get("j", 1)) and one.status != READING, what="its end")
        whole = await scene.whole("j")
        assert (printed(whole)[0], whole.status) == (b"all\n", "complete")

    play(story)


def test_the_worker_in_the_same_process_gets_the_output_without_redis(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        scene.held.add("j")
        async with scene.following() as agent:
            ref = scene.node.start("j")
            scene.node.write("j", "stdout", b"mine\n")
            scene.node.exit("j", told=False)  # the worker hears of it first
            found = await agent.output_of(ref, "id-of-node1")
            assert found is not None
            assert printed(found)[0] == b"mine\n"
            assert await agent.output_of(ref, "id-of-node1") == found
            assert await agent.output_of(ref, "another node") is None
            assert scene.calls.outputs.get("j", 1) is None

    play(story)


def test_outages_are_told_once_and_end_nothing(
    play: Callable[[Story], None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []

    async def story(scene: Scene) -> None:
        def refuse(*_: object) -> bool:
            refused.append(1)
            raise LedgerUnavailable("no answer (test)")

        async with scene.following():
            scene.node.start("j")
            with monkeypatch.context() as outage:
                outage.setattr(scene.calls.outputs, "put", refuse)
                scene.node.exit("j")
                await until(lambda: len(refused) > 2, what="some refusals")
            await scene.whole("j")
            scene.node.cut()
            await until(lambda: scene.node.calls["events"] > 3, what="the engine to be asked again")
            scene.node.away = False
            scene.node.start("k")
            scene.node.exit("k")
            await scene.whole("k")

    with caplog.at_level(logging.INFO):
        play(story)
    found = [getattr(record, "action", "") for record in caplog.records if record.name == NodeAgent.__module__]
    assert found[0] == "agent.following"
    assert found[-2:] == ["engine.unavailable", "agent.following"]
    # Another call that Redis answers in between ends an outage; but not each refusal is told.
    assert (set(found[1:-2:2]), set(found[2:-2:2])) == ({"redis.unavailable"}, {"agent.following"})
    assert found.count("redis.unavailable") < len(refused)


def test_what_a_container_uses_is_told_with_its_output(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        async with scene.following():
            scene.node.start("j")
            scene.node.use("j", Counters(1.5, 10, 30, 1, 2, 3, 4))
            await until(lambda: scene.node.calls["usage"] > 2, what="samples")
            scene.node.exit("j")
            usage = Used.model_validate((await scene.whole("j")).usage)
        assert (usage.cpu_seconds, usage.peak_memory, usage.sent_bytes) == (1.5, 30, 4)

    play(story)


def test_what_was_not_measured_is_not_0(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        async with scene.following():
            scene.node.start("j")
            scene.node.exit("j")
            assert (await scene.whole("j")).usage is None

    play(story)


def test_what_is_known_of_the_node_is_told_beside_the_lease(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        def told() -> NodeFacts | None:
            return scene.calls.leases.facts(["id-of-node1", "elsewhere"]).get("id-of-node1")

        scene.node.image_names = ["alpine:latest"]
        async with scene.following():
            await until(lambda: (facts := told()) and facts.has("alpine"), what="the image")
            scene.node.image_names = ["debian:latest"]
            await until(lambda: (facts := told()) and facts.has("debian"), what="the new image")
            found = told()
        assert found == NodeFacts("fake", "", None, ("debian:latest",), 1)
        assert told() is None
        assert not scene.calls.leases.tell("id-of-node1", "somebody else", "{}")

    play(story)


# -- values of secrets ----------------------------------------------------------------------------------------------


def test_the_values_of_secrets_reach_neither_the_output_nor_a_feed(play: Callable[[Story], None]) -> None:
    """Also across two messages, across a connection that broke, and at the end."""

    async def story(scene: Scene) -> None:
        scene.node.secrets["j"] = frozenset({b"hunter22", b"line one\nline two"})
        async with scene.following():
            wanted = scene.calls.feeds.watch("j", 1)
            scene.node.start("j")
            scene.node.write("j", "stdout", b"a hunter22 b hun")
            scene.node.cut()
            scene.node.away = False
            scene.node.write("j", "stdout", b"ter22\n", b"line one\n")
            scene.node.write("j", "stderr", b"line two\n")
            scene.node.write("j", "stdout", b"line two, and hunter2")
            scene.node.exit("j")
            whole = await scene.whole("j")
            fed, end = await scene.read(wanted.feed)
        expected = b"a *** b ***\n***, and hunter2"
        assert printed(whole) == (expected, b"line two\n")
        assert (whole.status, whole.reason) == ("partial", "values of secrets were replaced by ***")
        assert (whole.stdout, whole.stdout_sha256) == (len(expected), hashlib.sha256(expected).hexdigest())
        assert fed == {"stdout": expected, "stderr": b"line two\n"}
        assert (end.status, end.stdout) == ("partial", len(expected))

    play(story)


def test_a_scrubbed_output_without_a_secret_is_complete(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        scene.node.secrets["j"] = frozenset({b"hunter22"})
        async with scene.following():
            scene.node.start("j")
            scene.node.write("j", "stdout", b"nothing\n", b"hunt")
            scene.node.exit("j")
            whole = await scene.whole("j")
        assert (printed(whole)[0], whole.status) == (b"nothing\nhunt", "complete")

    play(story)
