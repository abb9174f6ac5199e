"""PURE: patterns of names, and images' names in full."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["ImageName", "is_pinned_form", "matches", "matches_image"]

_HUB: Final = "docker.io"


class ImageName(NamedTuple):
    """An image's name in full, as the engine completes it: ``alpine`` is ``docker.io/library/alpine``."""

    host: str
    path: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Return the parts of a reference.

        Args:
            text: such as ``alpine:3.20`` or ``registry.example:5000/team/app@sha256:...``.
        """
        rest, _, digest = text.partition("@")
        last = rest.rpartition("/")[2]
        tag = last.partition(":")[2]
        if tag:
            rest = rest[: -len(tag) - 1]
        host, path = _split_host(rest)
        return cls(host, path, tag or ("" if digest else "latest"), digest)

    @property
    def forms(self) -> tuple[str, ...]:
        """What a pattern may match: the name alone, with its tag, and with its digest."""
        name = f"{self.host}/{self.path}"
        tagged = (f"{name}:{self.tag}",) if self.tag else ()
        return (name, *tagged, *((f"{name}@{self.digest}",) if self.digest else ()))


def _split_host(name: str) -> tuple[str, str]:
    """Return the host and the path of a name. Source: distribution/reference, ``splitDockerDomain``."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        host, path = _HUB, name
    else:
        host, path = (_HUB if first == f"index.{_HUB}" else first), rest
    return host, (f"library/{path}" if host == _HUB and "/" not in path else path)


@lru_cache(maxsize=4096)
def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    meaning = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts), re.DOTALL)


def matches(text: str, patterns: Collection[str]) -> bool:
    """Return whether a text is matched as a whole by one of the patterns.

    Args:
        text: any name.
        patterns: ``*`` stands for any characters but ``/``, ``**`` for any, ``?`` for one.
    """
    return "**" in patterns or any(_regex(pattern).fullmatch(text) for pattern in patterns)


def matches_image(image: ImageName, patterns: Collection[str]) -> bool:
    """Return whether an image is matched by one of the patterns.

    Args:
        image: its name in full.
        patterns: like images, such as ``alpine``, ``ghcr.io/acme/*`` or ``alpine:3.*``; completed as images are, unless
            they begin with ``*``.
    """
    return any(matches(form, [_complete(pattern)]) for form in image.forms for pattern in patterns)


def _complete(pattern: str) -> str:
    if pattern.startswith("*"):
        return pattern
    host, path = _split_host(pattern)
    return f"{host}/{path}"


def is_pinned_form(pinned: str, image: str) -> bool:
    """Return whether a reference is another one with nothing but a digest in the place of its tag.

    Args:
        pinned: such as ``alpine@sha256:...``.
        image: such as ``alpine:3.20``; one with a digest is pinned by itself alone.
    """
    if "@" in image:
        return pinned == image
    found, wanted = ImageName.parse(pinned), ImageName.parse(image)
    return bool(found.digest) and found[:2] == wanted[:2] and found.tag in {"", wanted.tag}
