"""What each Sentinel says of the master, asked one by one."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import redis

from jaas_submit.connection.sentinel import sentinel_options
from jaas_submit.connection.url import SentinelAddress

__all__ = ["SentinelAnswers", "SentinelView", "ask_sentinels"]

_NO_SUCH_MASTER: Final = "No such master"
"""A Sentinel's error for an unknown name."""


class SentinelView(NamedTuple):
    """One Sentinel's view of the master."""

    master: tuple[str, int]
    down: bool
    replicas: int
    """The replicas that answer it."""
    quorum: str
    """Why there are too few Sentinels for a fail-over; empty if there are enough."""


class SentinelAnswers(NamedTuple):
    """What all of them say."""

    views: list[SentinelView]
    silent: list[str]
    """Those that do not answer, or refuse: host, port and why."""
    without_master: list[str]
    """Those that do not know the master's name: host, port and what they say."""


def ask_sentinels(address: SentinelAddress) -> SentinelAnswers:
    """Return what each of the Sentinels says of the master.

    Args:
        address: the Sentinels, and the master's name.
    """
    found = SentinelAnswers([], [], [])
    for host, port in address.hosts:
        try:
            with redis.Redis(host, port, **sentinel_options(address)) as one:
                found.views.append(_view(one, address.master))
        except redis.ResponseError as error:
            unknown = _NO_SUCH_MASTER in str(error)
            (found.without_master if unknown else found.silent).append(f"{host}:{port} ({error})")
        except redis.RedisError as error:
            found.silent.append(f"{host}:{port} ({error})")
    return found


def _view(one: redis.Redis, master: str) -> SentinelView:
    state: Any = one.sentinel_master(master)
    known: Any = one.sentinel_slaves(master)
    try:
        one.sentinel_ckquorum(master)
        quorum = ""
    except redis.ResponseError as error:
        quorum = str(error)
    down = bool(state["is_sdown"] or state["is_odown"] or state["is_disconnected"])
    replicas = sum(not (replica["is_disconnected"] or replica["is_sdown"]) for replica in known)
    return SentinelView((state["ip"], state["port"]), down, replicas, quorum)
