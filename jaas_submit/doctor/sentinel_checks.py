"""The checks of `jaas doctor` that ask each Sentinel."""

from __future__ import annotations

from jaas_submit.connection.sentinel_view import SentinelView, ask_sentinels
from jaas_submit.connection.url import SentinelAddress, sentinel_address
from jaas_submit.doctor.check import Check, Verdict

__all__ = ["sentinel_checks"]


def sentinel_checks(url: str) -> list[Check]:
    """Return the checks of the Sentinels; nothing if the URL names none.

    Args:
        url: of Redis (``jaas_submit.connection.url``).

    Raises:
        SpecError: the URL is not valid.
    """
    address = sentinel_address(url)
    if address is None:
        return []
    views, silent, without_master = ask_sentinels(address)
    return [_answers(address, views, silent, without_master), *(_fail_over(address, views) if views else [])]


def _answers(
    address: SentinelAddress, views: list[SentinelView], silent: list[str], without_master: list[str]
) -> Check:
    if without_master:
        fix = f"`sentinel monitor {address.master} ...` in their configuration, or the right name as ?master=NAME"
        detail = f"no master {address.master!r} is known to {', '.join(without_master)}"
        return Check("sentinel", Verdict.WARN if views else Verdict.FAIL, detail, fix)
    if silent:
        fix = "start these, name those that exist in the Redis URL, or give it the right sentinel_password"
        detail = f"{len(views)} of {len(address.hosts)} answer; not {', '.join(silent)}"
        return Check("sentinel", Verdict.WARN if views else Verdict.FAIL, detail, fix)
    return Check("sentinel", Verdict.OK, f"{len(views)} answer")


def _fail_over(address: SentinelAddress, views: list[SentinelView]) -> list[Check]:
    """Return the check of the master, and of the replicas that could replace it."""
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
        fix = "start a replica (`replicaof`): if the master fails, nothing can replace it"
        found.append(Check("replicas", Verdict.WARN, "Sentinel knows of none that is up", fix))
    else:
        found.append(Check("replicas", Verdict.OK, f"{replicas} up"))
    if lacking := next((view.quorum for view in views if view.quorum), ""):
        fix = "start the missing Sentinels: with so few a failed master is not replaced"
        found.append(Check("quorum", Verdict.WARN, lacking, fix))
    else:
        found.append(Check("quorum", Verdict.OK, "enough Sentinels for a fail-over"))
    return found
