"""A container's exit, as workers and agents tell each other of it through the ledger.

The swarm hands what its nodes report to the managers in batches, ten a second (moby/swarmkit, manager/dispatcher,
``maxBatchInterval``). Who hears of the exit of a container whose job another worker holds forwards it to that worker.
Nothing depends on it: what gets lost here, the other worker learns from the swarm.
"""

from __future__ import annotations

import json
from typing import Final

from pydantic import TypeAdapter

from jaas_submit.ledger import Ledger
from jaas_submit.model.bounds import read_json
from jaas_worker.decisions.times import parse_time
from jaas_worker.swarm.engine import EngineEvent

__all__ = ["forward_exit", "read_exit"]

_EVENT = TypeAdapter(EngineEvent)

_MAX_NOTICE_BYTES: Final = 64 * 1024
"""Size of a notice; a longer one is none of ours."""


def forward_exit(ledger: Ledger, event: EngineEvent) -> None:
    """Tell the worker that holds a job of its container's exit, if there is one.

    Args:
        ledger: knows who holds the job.
        event: the exit.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    ledger.ownership.forward_exit(event.job_id, json.dumps(event._asdict()))


def read_exit(text: str) -> EngineEvent | None:
    """Return the exit that another process has told of; None where this version cannot read it.

    Args:
        text: as ``forward_exit`` wrote it, perhaps in another version.
    """
    try:
        found = read_json(text.encode(), _MAX_NOTICE_BYTES)
        event = _EVENT.validate_python({name: found[name] for name in EngineEvent._fields})
        understood = event.kind == "die" and parse_time(event.at) is not None
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return event if understood else None
