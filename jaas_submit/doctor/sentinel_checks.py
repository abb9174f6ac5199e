"""The checks of `jaas doctor` that ask the Sentinels, each of them for itself."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import redis

from jaas_submit.connection.sentinel import sentinel_options
from jaas_submit.connection.url import SentinelAddress, sentinel_address
from jaas_submit.doctor.redis_checks import Check, Verdict

__all__ = ["sentinel_checks"]

_NO_SUCH_MASTER: Final = "No such master"
"""What a Sentinel says of a name that it does not watch."""


class _View(NamedTuple):
    """What one Sentinel says of the master."""

    master: tuple[str, int]
    down: bool
    replicas: int
    """Those that answer it."""
    quorum: str
    """Why too few Sentinels are there for a fail-over; empty when there are enough."""


def sentinel_checks(url: str) -> list[Check]:
    """Return what is to be said about the Sentinels; nothing where the URL names none.

    Args:
        url: of Redis (``jaas_submit.connection.url``).

    Raises:
        SpecError: the URL is not valid.
    """
    address = sentinel_address(url)
    if address is None:
        return []
    views: list[_View] = []
    silent: list[str] = []
    strangers: list[str] = []
    for host, port in address.hosts:
        try:
            with redis.Redis(host, port, **sentinel_options(address)) as one:
                views.append(_view(one, address.master))
        except redis.ResponseError as error:
            (strangers if _NO_SUCH_MASTER in str(error) else silent).append(f"{host}:{port} ({error})")
        except redis.RedisError as error:
            silent.append(f"{host}:{port} ({error})")
    return [_answers(address, views, silent, strangers), *(_fail_over(address, views) if views else [])]


def _view(one: redis.Redis, master: str) -> _View:
    state: Any = one.sentinel_master(master)
    known: Any = one.sentinel_slaves(master)
    try:
        one.sentinel_ckquorum(master)
        quorum = ""
    except redis.ResponseError as error:
        quorum = str(error)
    down = bool(state["is_sdown"] or state["is_odown"] or state["is_disconnected"])
    replicas = sum(not (replica["is_disconnected"] or replica["is_sdown"]) for replica in known)
    return _View((state["ip"], state["port"]), down, replicas, quorum)


def _answers(address: SentinelAddress, views: list[_View], silent: list[str], strangers: list[str]) -> Check:
    if strangers:
        fix = f"`sentinel monitor {address.master} ...` in their configuration, or the right name as ?master=NAME"
        detail = f"no master {address.master!r} is known to {', '.join(strangers)}"
        return Check("sentinel", Verdict.WARN if views else Verdict.FAIL, detail, fix)
    if silent:
        fix = "start these, name those that exist in the Redis URL, or give it the right sentinel_password"
        detail = f"{len(views)} of {len(address.hosts)} answer; not {', '.join(silent)}"
        return Check("sentinel", Verdict.WARN if views else Verdict.FAIL, detail, fix)
    return Check("sentinel", Verdict.OK, f"{len(views)} answer")


def _fail_over(address: SentinelAddress, views: list[_View]) -> list[Check]:
    """Return who the master is, and whether another could become it."""
    masters = sorted({f"{view.master[0]}:{view.master[1]}" for view in views})
    if len(masters) > 1:
        fix = "normal for seconds in a fail-over; else see which Sentinels are cut off (`SENTINEL SENTINELS NAME`)"
        return [Check("master", Verdict.WARN, f"the Sentinels name different ones: {', '.join(masters)}", fix)]
    detail = f"{address.master} is {masters[0]}"
    if any(view.down for view in views):
        fix = "normal for seconds in a fail-over; else start a server, or see why none is promoted (Sentinel's log)"
        return [Check("master", Verdict.FAIL, f"{detail}, which does not answer", fix)]
    found = [Check("master", Verdict.OK, detail)]
    replicas = min(view.replicas for view in views)
    if replicas == 0:
        fix = "start a replica (`replicaof`): should the master go away, nothing can take its place"
        found.append(Check("replicas", Verdict.WARN, "Sentinel knows of none that is up", fix))
    else:
        found.append(Check("replicas", Verdict.OK, f"{replicas} up"))
    if lacking := next((view.quorum for view in views if view.quorum), ""):
        fix = "start the missing Sentinels: with so few the master's death is not followed by a fail-over"
        found.append(Check("quorum", Verdict.WARN, lacking, fix))
    else:
        found.append(Check("quorum", Verdict.OK, "enough Sentinels for a fail-over"))
    return found
