"""Files for a container: their names, and which of them travel as swarm configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jaas_submit import JobSpec, SpecError
from jaas_submit.model.files.inputs import MOST_IN_CONFIGS, FileIn, in_configs, target_of, unsent

SHA = "0" * 64


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({"": "/a"}, "files: '' is no name of a file"),
        ({"a/../b": "/a"}, "'a/../b' is no name"),
        ({"/": "/a"}, "'/' is no name"),
        ({"a//b": "/a"}, "'a//b' is no name"),
        ({"a\nb": "/a"}, "is no name of a file; write a name, which is put into /run/jaas/files"),
        ({"x" * 256: "/a"}, "in at most 255 characters"),
        ({"/run/jaas/input.json": "/a"}, "is taken already"),
        ({"a": "/a", "/run/jaas/files/a": "/b"}, "is taken already"),
        ({"a": "/a", "a/b": "/b"}, "another one is below it"),
        ({"/data": "/a"}, "mounts: two mounts, or a mount and a file, have the same target"),
        ({"a": 1}, r"files\.a: must be an object"),
        ({"a": ""}, r"files\.a\.path"),
        ({"a": {"path": "/a", "sha256": SHA, "size": 1}}, "name the file's path"),
        ({"a": {"sha256": SHA}}, "name the file's path"),
        ({"a": {}}, "name the file's path"),
        ({"a": {"path": "/a", "mode": 0o7777}}, r"files\.a\.mode"),
        ({f"f{n}": "/a" for n in range(65)}, "files: "),
        (["a"], "files: give an object of names and paths"),
    ],
)
def test_what_is_no_file_is_refused_with_field_and_fix(files: Any, wrong: str) -> None:
    with pytest.raises(SpecError, match=wrong):
        JobSpec(image="a", mounts=[{"source": "/x", "target": "/data"}], files=files)


def test_a_path_alone_is_short_for_an_object() -> None:
    spec = JobSpec(image="a", files={"a": Path("/x"), "/b": {"path": "y", "mode": 0o600}, "c": FileIn(path="z")})
    assert spec.files == {"a": FileIn(path="/x"), "/b": FileIn(path="y", mode=0o600), "c": FileIn(path="z")}
    assert [*map(target_of, spec.files)] == ["/run/jaas/files/a", "/b", "/run/jaas/files/c"]
    assert JobSpec.parse(spec.to_wire()) == spec
    sent = spec.changed({"files": {"a": {"sha256": SHA, "size": 3}}})
    assert unsent(sent.files) == ["/b", "c"]


@pytest.mark.parametrize(
    ("sizes", "small"),
    [
        ({}, ""),
        ({"a": 0, "b": 1}, "b"),
        ({"a": MOST_IN_CONFIGS}, "a"),
        ({"a": MOST_IN_CONFIGS + 1}, ""),
        ({"a": MOST_IN_CONFIGS, "b": 1}, "b"),
        ({"a": MOST_IN_CONFIGS - 1, "b": 1}, "ab"),
        ({"a": 700_000, "b": 300_000, "c": 400_000}, "bc"),
        ({"b": 600_000, "a": 600_000}, "a"),
    ],
)
def test_the_smallest_travel_as_configs(sizes: dict[str, int], small: str) -> None:
    assert in_configs(sizes) == set(small)
