"""Free disk as an agent sees it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jaas_worker.agent.node_facts import free_disk


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
    ],
)
def test_in_a_container_its_root_has_the_same_disk(tmp_path: Path, mounts: str, known: bool) -> None:
    (tmp_path / "mounts").write_text(mounts)
    assert (free_disk("/not/here", tmp_path / "mounts") is not None) is known
