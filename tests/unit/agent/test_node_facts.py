"""Free disk as an agent sees it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaas_worker.agent.node_facts import free_disk, tell_facts
from tests.support.fake_node import FakeNode


def test_the_engines_folder_is_looked_at_where_it_is_seen(tmp_path: Path) -> None:
    found = free_disk(str(tmp_path), tmp_path / "none")
    assert found is not None
    assert found == pytest.approx(shutil.disk_usage(tmp_path).free, abs=2**30)


@pytest.mark.parametrize(
    ("mounts", "known"),
    [
        ("overlay / overlay rw,lowerdir=/a 0 0\nproc /proc proc rw 0 0\n", True),
        ("/dev/vda / ext4 rw 0 0\n", False),
        ("overlay / overlay rw 0 0\n/dev/vda / ext4 rw 0 0\n", False),
        ("", False),
        ("/dev/vda /mnt/\udcff ext4 rw 0 0\noverlay / overlay rw 0 0\n", True),
    ],
)
def test_in_a_container_its_root_has_the_same_disk(tmp_path: Path, mounts: str, known: bool) -> None:
    (tmp_path / "mounts").write_bytes(mounts.encode(errors="surrogateescape"))
    assert (free_disk("/not/here", tmp_path / "mounts") is not None) is known


class Told:
    """Redis, for facts."""

    def __init__(self) -> None:
        self.facts: list[str] = []
        self.leases = self

    async def call(self, ask: Callable[[], bool]) -> bool:
        return ask()

    def tell(self, node_id: str, holder: str, facts: str) -> bool:
        self.facts.append(facts)
        return True


def test_an_error_that_nobody_expected_is_logged_and_the_next_look_tells(caplog: pytest.LogCaptureFixture) -> None:
    class Node(FakeNode):
        async def images(self) -> list[str]:
            if await super().images() == []:
                self.image_names = ["alpine:3"]
                raise ValueError("stumbled (test)")
            return self.image_names

    told: Any = Told()

    async def main() -> None:
        task = asyncio.create_task(tell_facts(Node(), told, "n1", "agent", 0.01))
        async with asyncio.timeout(20):
            while not told.facts and not task.done():
                await asyncio.sleep(0.01)
        task.cancel()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "alpine:3" in told.facts[0]
    assert [record.getMessage() for record in caplog.records] == ["the facts of node n1 could not be told"]
