"""PURE: which of a worker's logins goes along with an image: one for the host that the image comes from, no other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from jaas_submit.errors import ImageRefused
from jaas_submit.model.bounds import shown

__all__ = ["ANY_HOST", "host_of", "image_host", "login_for", "why_no_login"]

_SHOWN: Final = 10
_HUB: Final = "docker.io"

ANY_HOST: Final = "*"
"""Among the names that a worker tells: it has a store of logins, which may have one for the image's own host."""


def host_of(name: str) -> str:
    """Return the host in a login's name: ``registry.example`` of ``https://registry.example/team-a``."""
    host = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return _HUB if host == f"index.{_HUB}" else host


def login_for(registry: str, host: str, names: Collection[str]) -> str:
    """Return the name of the login that a job asks for.

    Args:
        registry: what the job calls it: the whole name, or what follows the host in ``HOST/NAME``.
        host: the host that the image comes from.
        names: the logins that the worker has.

    Raises:
        ImageRefused: there is none of that name, or it is another host's.
    """
    for name in (f"{host}/{registry}", registry):
        if name in names and host_of(name) == host:
            return name
    for name in names:
        if host_of(name) == host_of(registry) == host and "/" not in registry:
            return name
    if registry in names or any(host_of(name) == registry for name in names):
        raise ImageRefused(
            f"registry: the login {shown(registry)} is for {shown(host_of(registry))}, and the image is from "
            f"{shown(host)}: it is not sent there; a further login for that host is called {shown(host)}/NAME in "
            "config.json"
        )
    known = ", ".join(sorted(map(shown, names))[:_SHOWN]) or "none"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise ImageRefused(f"registry: this worker has no login {shown(registry)} for {shown(host)}; it has {known}{more}")


def image_host(image: str) -> str:
    """Return the registry that an image comes from, as docker reads its name: ``docker.io`` where it names none."""
    first, slash, _ = image.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return host_of(first) if named else _HUB


def why_no_login(registry: str, image: str, workers: Sequence[Collection[str]]) -> str:
    """Return why no live worker can pull an image with the login that a job asks for; empty where one can.

    Args:
        registry: what the job calls the login.
        image: the image's name.
        workers: for each live worker that tells its logins, their names.
    """
    host, said = image_host(image), "registry: cannot be checked: no worker answers"
    for names in workers:
        try:
            login_for(registry, host, {*names, host} - {ANY_HOST} if ANY_HOST in names else names)
        except ImageRefused as error:
            said = str(error)
        else:
            return ""
    return said
