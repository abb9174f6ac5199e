"""What jaas has added to a service for the files of its job, and what only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaas_submit import JobSpec
from jaas_submit.errors import EngineRefused
from jaas_submit.ledger import SentFile
from jaas_submit.storage.store import Store
from jaas_worker.lifecycle.starting.job_files import file_places, is_own_config, is_own_mount
from jaas_worker.swarm.files.shared_configs import SharedConfigs
from tests.support.fake_swarm import FakeSwarm
from tests.support.step_world import World

SHA, OTHER = "a" * 64, "b" * 64
LABELS = {"jaas.ledger": "l"}
SPEC = JobSpec(image="a", files={"f": {"sha256": SHA, "size": 1}})
TARGET = "/run/jaas/files/f"


@pytest.mark.parametrize(
    ("digest", "target", "installation", "own"),
    [
        (SHA, TARGET, LABELS, True),
        (SHA, "/etc/passwd", LABELS, False),
        (OTHER, TARGET, LABELS, False),
        (SHA, TARGET, {"jaas.ledger": "other"}, False),
    ],
)
def test_a_config_is_jaas_own_by_its_name_and_place(
    digest: str, target: str, installation: dict[str, str], own: bool
) -> None:
    made = SharedConfigs(FakeSwarm(), installation).get(digest, lambda: b"x", 0)
    assert is_own_config(made.name, target, SPEC, LABELS) is own


@pytest.mark.parametrize(
    ("below", "target", "own"),
    [
        (f".files/{SHA}-00000000", TARGET, True),
        (f".files/{SHA}-00000000", "/etc/passwd", False),
        (f".files/{OTHER}-00000000", TARGET, False),
        (f".files/{SHA}-00000000/../../other", TARGET, False),
        (f"job/{SHA}-00000000", TARGET, False),
        (SHA, TARGET, False),
    ],
)
def test_a_mount_is_jaas_own_by_its_path_and_place(tmp_path: Path, below: str, target: str, own: bool) -> None:
    store = Store(f"file://{tmp_path}", "p", lambda: "s")
    assert is_own_mount(f"{tmp_path}/p/{below}", target, SPEC, store) is own
    assert not is_own_mount(f"{tmp_path}/p/{below}", target, SPEC, None)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"f": "/etc/passwd"}, "files.f: is a path at its producer; only the client of jaas sends files"),
        ({"f": {"sha256": SHA, "size": 1}}, "files.f: its content is not kept any more; submit the job again"),
        ({"f": {"sha256": SHA, "size": 2_000_000}}, "files.f: it is in a store, and this worker has none"),
    ],
)
def test_what_cannot_be_handed_over_is_refused_with_the_reason(files: dict[str, object], why: str) -> None:
    with pytest.raises(EngineRefused, match=why):
        file_places(JobSpec(image="a", files=files), World().context)


def test_a_content_that_is_noted_as_another_file_of_the_store_is_refused(tmp_path: Path) -> None:
    world = World()
    world.context.store = Store(f"file://{tmp_path}", "p", lambda: "s")
    world.context.store.write_shared(f"{OTHER}-00000000", [b"x" * 2_000_000])
    world.ledger.sent_files.found = SentFile(stored=f"{OTHER}-00000000")
    large = JobSpec(image="a", files={"f": {"sha256": SHA, "size": 2_000_000}})
    with pytest.raises(EngineRefused, match=r"files\.f: what is noted of it is another file"):
        file_places(large, world.context)
