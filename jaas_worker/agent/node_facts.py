"""What an agent tells of its node: free disk, and the images there."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jaas_submit.errors import EngineRefused, EngineUnavailable, LedgerUnavailable
from jaas_submit.nodes.facts import pack
from jaas_worker.agent.node_engine import NodeEngine
from jaas_worker.agent.redis_calls import RedisCalls
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["free_disk", "tell_facts"]

logger = logging.getLogger(__name__)

_AGAIN: Final = 60.0
"""Seconds after which facts that have not changed are told again: Redis may have lost them."""

_SLOW_ENGINE_FACTOR: Final = 50
"""What takes the engine long is done again only after so many times as long."""

_ROUND: Final = 2**28
"""Free disk is told in steps of so many bytes: each change is one more message."""


async def tell_facts(engine: NodeEngine, calls: RedisCalls, node_id: str, holder: str, pause: float) -> None:
    """Tell what is known of a node until the task is cancelled.

    Args:
        engine: the node's.
        calls: Redis.
        node_id: the swarm's id of the node.
        holder: this process, which has the node's lease.
        pause: seconds between two looks.
    """
    told, at = "", 0.0
    while True:
        began = time.monotonic()
        try:
            disk = free_disk(await engine.data_root()) if engine.is_here else None
            facts = pack(disk, await engine.images())
            took = time.monotonic() - began
            if facts != told or began - at >= _AGAIN:
                done = await calls.call(_telling(calls, node_id, holder, facts))
                told, at = (facts, began) if done else ("", 0.0)
        except (EngineUnavailable, EngineRefused, LedgerUnavailable):  # the parts that follow containers say so
            took = 0.0
        except Exception:  # the containers are followed all the same
            took = 0.0
            logger.exception("the facts of node %s could not be told", node_id, extra=action(Action.STEP_FAILED))
        await asyncio.sleep(max(pause, _SLOW_ENGINE_FACTOR * took))


def _telling(calls: RedisCalls, node_id: str, holder: str, facts: str) -> Callable[[], bool]:
    return lambda: calls.leases.tell(node_id, holder, facts)


def free_disk(data_root: str, mounts: Path = Path("/proc/self/mounts")) -> int | None:
    """Return the free bytes where an engine keeps its data; None where this process does not see that.

    In a container it is seen all the same: its root is an overlay, which has the free space of the engine's data.

    Args:
        data_root: the engine's folder, on its machine.
        mounts: what is mounted where in this process.
    """
    try:
        seen = data_root if data_root and Path(data_root).is_dir() else "/" if _is_overlay(mounts) else ""
        return shutil.disk_usage(seen).free // _ROUND * _ROUND if seen else None
    except OSError:
        return None


def _is_overlay(mounts: Path) -> bool:
    text = mounts.read_text(encoding="utf-8", errors="replace")  # paths of a host may be any bytes
    kinds = [words[2] for line in text.splitlines() if (words := line.split())[1] == "/"]
    return kinds[-1:] == ["overlay"]
