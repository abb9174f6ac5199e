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
        ({"/data": "/a"}, "mounts: /data is a target of files, too; give each its own"),
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


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        (
            {"files": {"/etc/c": "/x"}, "configs": [{"source": "c", "target": "/etc/c"}]},
            "configs: /etc/c .* files, too",
        ),
        ({"files": {"/c": "/x"}, "configs": ["c"]}, "configs: /c is a target of files"),
        ({"files": {"/run/secrets/k": "/x"}, "secrets": ["k"]}, "secrets: /run/secrets/k is a target of files"),
        ({"configs": ["c", {"source": "d", "target": "c"}]}, "configs: two of them have the same target, /c"),
        ({"secrets": ["k", {"source": "l", "target": "/run/secrets/k"}]}, "secrets: two of them"),
        ({"configs": ["c"], "mounts": [{"source": "/x", "target": "/c/"}]}, "mounts: /c/ is a target of configs"),
        ({"mounts": [{"source": "/x", "target": t} for t in ("/c", "/d/../c")]}, "mounts: two of them"),
        ({"configs": [{"source": "c", "target": "/run/jaas/input.json"}]}, "configs: .* is a target of input"),
        ({"configs": ["c"], "files": {"/c/d": "/x"}}, "configs: /c is a file, and files puts /c/d below it"),
        ({"configs": ["c"], "outputs": ["/c"]}, "outputs: /c is what configs puts there"),
        ({"files": {"a": "/x"}, "outputs": ["/run/jaas/files/a"]}, "outputs: .* is what files puts there"),
        ({"outputs": ["/run/jaas/input.jsonl"]}, "outputs: .* is what input puts there"),
    ],
)
def test_a_path_that_is_used_twice_is_refused_with_both_fields(fields: Any, wrong: str) -> None:
    with pytest.raises(SpecError, match=wrong):
        JobSpec(image="a", **fields)


def test_paths_of_their_own_go_together() -> None:
    files = {"c": "/x", "/out/d": "/x"}
    mounts = [{"source": "/x", "target": "/out"}]
    JobSpec(image="a", files=files, configs=["c"], secrets=["c"], mounts=mounts, outputs=["/out", "/run/jaas/files/*"])


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
