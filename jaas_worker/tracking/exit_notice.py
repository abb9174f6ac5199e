"""A container's exit, as workers and agents forward it through the ledger.

The swarm passes its nodes' reports to the managers in batches, ten a second (moby/swarmkit, manager/dispatcher,
``maxBatchInterval``). A worker or agent forwards the exits of other workers' jobs to all workers; the holder takes
note. Nothing depends on it: the swarm also reports the exits that get lost here.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Final

from jaas_submit.model.bounds import read_json
from jaas_worker.decisions.times import parse_time
from jaas_worker.swarm.engine import EngineEvent

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from jaas_submit.output import Ends

__all__ = ["forward_exit", "read_exit"]

_MAX_NOTICE_BYTES: Final = 64 * 1024
"""Maximal size of a notice."""


def forward_exit(ends: Ends, event: EngineEvent) -> None:
    """Forward a container's exit to the workers.

    Args:
        ends: passes it on.
        event: the exit.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    ends.forward(json.dumps(event._asdict()))


@cache
def _adapter() -> TypeAdapter[EngineEvent]:
    from pydantic import TypeAdapter  # here: agents read no exits, and are smaller without it

    return TypeAdapter(EngineEvent)


def read_exit(text: str) -> EngineEvent | None:
    """Return a forwarded exit; None if this version cannot read it.

    Args:
        text: as ``forward_exit`` wrote it, perhaps in another version.
    """
    try:
        found = read_json(text.encode(), _MAX_NOTICE_BYTES)
        event = _adapter().validate_python({name: found[name] for name in EngineEvent._fields})
        understood = event.kind == "die" and parse_time(event.at) is not None
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return event if understood else None
