"""What an agent says of its node."""

from __future__ import annotations

import json

import pytest

from jaas_submit.nodes.facts import MOST_BYTES, NodeFacts, pack, unpack

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("images", "image", "there"),
    [
        (["alpine:latest"], "alpine", True),
        (["alpine:latest"], "docker.io/library/alpine:latest", True),
        (["alpine:3.20"], "alpine", False),
        (["acme/tool:1"], "docker.io/acme/tool:1", True),
        (["registry:5000/tool:1"], "registry:5000/tool:1", True),
        (["registry:5000/tool:latest"], "registry:5000/tool", True),
        (["localhost/tool:1"], "tool:1", False),
        ([f"alpine@{DIGEST}"], f"alpine:3@{DIGEST}", True),
        ([f"alpine@{DIGEST}"], "alpine:3", False),
        ([], "alpine", False),
    ],
)
def test_an_image_is_there_under_each_of_its_names(images: list[str], image: str, there: bool) -> None:
    assert NodeFacts(images=tuple(images), image_count=len(images)).has(image) is there


def test_what_is_not_told_is_not_known() -> None:
    assert NodeFacts().has("alpine") is None
    assert NodeFacts(images=("a:1",), image_count=2).has("alpine") is None
    assert NodeFacts(images=("a:1",), image_count=2).has("a:1") is True


def test_facts_are_read_as_they_were_told() -> None:
    packed = pack(2**40, ["alpine:latest", "b:1"])
    assert unpack("28.5", "local", packed) == NodeFacts("28.5", "local", 2**40, ("alpine:latest", "b:1"), 2)


def test_a_node_with_very_many_images_names_those_that_fit() -> None:
    names = [f"registry.example/\N{LATIN SMALL LETTER E WITH ACUTE}/{number}@{DIGEST}" for number in range(5000)]
    packed = pack(None, [*names, "x" * 1000])
    assert len(packed) <= MOST_BYTES
    facts = unpack("", "", packed)
    assert facts.image_count == 5000
    assert facts.images is not None
    assert 50 < len(facts.images) < 5000
    assert facts.images == tuple(names[: len(facts.images)])


@pytest.mark.parametrize(
    "packed",
    [
        "",
        "{",
        "[]",
        '"x"',
        json.dumps({"images": "alpine", "free_disk": "much", "image_count": None}),
        json.dumps({"free_disk": -1, "image_count": 2**70}),
        json.dumps({"free_disk": True}),
        "[" * 5000,
        " " * (MOST_BYTES + 1),
    ],
)
def test_what_cannot_be_read_is_not_known(packed: str) -> None:
    assert unpack("20.10", "local", packed) == NodeFacts("20.10", "local")


def test_only_texts_are_images() -> None:
    assert unpack("", "", json.dumps({"images": ["a:1", 5, None]})).images == ("a:1",)
