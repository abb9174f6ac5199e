"""The checks of `jaas doctor` about the ledger itself: whether it can be read, and whether jobs are taken."""

from __future__ import annotations

import time
from typing import Any, Final

from jaas_submit.client.client import Client
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.doctor.redis_checks import messages_in
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.messaging.queues import lists_of
from jaas_submit.model.bounds import counted, shown

__all__ = ["ledger_checks"]

_IDLE: Final = 60.0
"""Seconds without a claim after which waiting messages are reported, if workers have room."""

_SECOND_LOOK: Final = 2.0
"""Seconds until the second read: a new message is taken within milliseconds."""

_NAMED: Final = 3
_LONGEST_KEY: Final = 400


def ledger_checks(client: Client, second_look: float = _SECOND_LOOK) -> list[Check]:
    """Return the checks of the ledger's records and of claims; nothing if Redis does not answer.

    Args:
        client: whose Redis, queue and prefix are checked.
        second_look: seconds between two reads of waiting messages.
    """
    try:
        return [_records(client), *_claims(client, second_look)]
    except LedgerUnavailable:  # which another check reports
        return []


def _records(client: Client) -> Check:
    misplaced = client.ledger.health.misplaced(lists_of(client.queue))
    if misplaced:
        detail = ", ".join(f"{shown(key, _LONGEST_KEY)} holds a {kind}" for key, kind in sorted(misplaced.items()))
        fix = "another program has written there: see what (`redis-cli TYPE KEY`), and delete it (`redis-cli DEL KEY`)"
        return Check("records", Verdict.FAIL, detail, fix)
    count = client.ledger.health.look_through()
    bad = client.ledger.unreadable
    if not bad:
        return Check("records", Verdict.OK, f"{count:,} looked at, all can be read")
    names = "; ".join(f"{name}: {shown(why)}" for name, why in list(bad.items())[:_NAMED])
    detail = f"{len(bad)} of {count:,} looked at cannot be read ({names}{'; ...' if len(bad) > _NAMED else ''})"
    fix = f"see what they hold (`redis-cli HGETALL {client.ledger.prefix}:job:ID`), and delete or repair them"
    return Check("records", Verdict.WARN, detail, fix)


def _claims(client: Client, second_look: float) -> list[Check]:
    """Return whether messages wait although workers have room, and none of them takes any."""
    if not _is_stuck(client):
        return []
    time.sleep(second_look)
    if not _is_stuck(client):
        return []
    messages, room = messages_in(client), _room(client)
    since = client.ledger.health.last_claim(client.queue)
    idle = f"for {(client.ledger.now() - since) / 60:,.0f} min" if since else "ever"
    wait = f"{counted(messages, 'message')} {'waits' if messages == 1 else 'wait'}"
    detail = f"{client.queue}: {wait}, workers have room for {room}, and nothing was claimed {idle}"
    fix = (
        "see the workers' log, and start one of them again; if that does not help, look at the message that comes next "
        f"(`redis-cli LINDEX {client.queue} -1`) and take it out (`redis-cli RPOP {client.queue}`)"
    )
    return [Check("claims", Verdict.WARN, detail, fix)]


def _is_stuck(client: Client) -> bool:
    if client.ledger.now() - client.ledger.health.last_claim(client.queue) <= _IDLE:
        return False
    return _room(client) > 0 and messages_in(client) > 0 and not client.ledger.queues.is_paused(client.queue)


def _room(client: Client) -> int:
    """Return how many more jobs the workers of this queue have room for, by their last reports."""
    workers = [
        w for w in client.ledger.queries.workers() if w.get("queue") == client.queue and not w.get("engine_unavailable")
    ]
    return sum(max(_room_of(worker), 0) for worker in workers)


def _room_of(worker: dict[str, Any]) -> int:
    # An older worker reports only its number of jobs and its limit.
    return int(worker.get("room", worker.get("max_in_flight", 0) - worker.get("in_flight", 0)))
