"""PURE: what is known of a node from its agent. An agent makes it, so there is no pydantic here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from jaas_submit.model.bounds import read_json

__all__ = ["MOST_BYTES", "NodeFacts", "pack", "unpack"]

MOST_BYTES: Final = 16 * 1024
"""Of packed facts: more images than fit are only counted."""

_LONGEST_NAME: Final = 512


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of a node.

    Args:
        engine: version of its engine; empty where it is not known.
        log_driver: what keeps the output of its containers, unless they say otherwise.
        free_disk: free bytes where the engine keeps its data; None where the agent does not see that.
        images: names of images there, with tag or digest; None where they are not known.
        image_count: how many images there are, also those that are not named.
    """

    engine: str = ""
    log_driver: str = ""
    free_disk: int | None = None
    images: tuple[str, ...] | None = None
    image_count: int = 0

    def has(self, image: str) -> bool | None:
        """Return whether an image is there; None where that is not known.

        Args:
            image: as in a job's description, or with the digest that a registry told.
        """
        if self.images is None:
            return None
        named = {_whole(name) for name in self.images}
        return True if _whole(image) in named else None if len(self.images) < self.image_count else False


def _whole(image: str) -> str:
    """Return the name of an image in the one form that all its names have: with registry, and digest or else tag."""
    name, at, digest = image.partition("@")
    path, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    host = path.partition("/")[0]
    if not slash:
        path, slash = "docker.io/library", "/"
    elif not ("." in host or ":" in host or host == "localhost"):
        path = f"docker.io/{path}"
    version = f"@{digest}" if at else f":{tag or 'latest'}"
    return f"{path}/{last}{version}"


def pack(free_disk: int | None, images: Iterable[str]) -> str:
    """Return facts as an agent sends them, beside its lease.

    Args:
        free_disk: free bytes; None where they are not known.
        images: names of all images; the first ones that fit are sent.
    """
    names = [name for name in images if len(name) <= _LONGEST_NAME]
    kept, left = [], MOST_BYTES - 200
    for name in names:
        left -= len(json.dumps(name)) + 2
        if left < 0:
            break
        kept.append(name)
    return json.dumps({"free_disk": free_disk, "images": kept, "image_count": len(names)})


def unpack(engine: str, log_driver: str, packed: str) -> NodeFacts:
    """Return the facts about a node; what cannot be read is not known.

    Args:
        engine: version of its engine, from the lease.
        log_driver: of its engine, from the lease.
        packed: as ``pack`` made it, perhaps in another version; empty where there are none yet.
    """
    try:
        found = read_json(packed.encode(), MOST_BYTES) if packed else {}
        free, count, images = found.get("free_disk"), found.get("image_count"), found.get("images")
    except (ValueError, AttributeError):
        return NodeFacts(engine, log_driver)
    known = None if not isinstance(images, list) else tuple(_texts(images))
    return NodeFacts(engine, log_driver, _size(free), known, _size(count) or 0)


def _texts(values: list[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


def _size(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    return None
