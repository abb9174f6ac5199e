"""Hostile entries among the jobs: what the fuzzer makes, sent to real workers while everything else fails, too.

Left out: what replaces a key that all share (the campaign's own messages would be lost with it), and jobs that wait for
their time, which may be years away.
"""

from __future__ import annotations

import random
from typing import Any

import redis

from jaas_submit.connection import as_text
from jaas_submit.model.wire_names import channel_prefix, job_id_of
from tests.faults.fault import Bench, Fault
from tests.fuzz.arrivals import Address, Arrival, arrival, carried_id, waits
from tests.fuzz.corpus import CORPUS

__all__ = ["Hostile", "made", "record_ids"]

_FROM_CORPUS = 0.25
"""Share of what has stopped a worker once."""


def made(seed: float, to: Address) -> Arrival:
    """Return something hostile; the same for the same arguments.

    Args:
        seed: of the generator.
        to: where a worker is reached.
    """
    rng = random.Random(seed)
    while True:
        number = rng.randrange(len(CORPUS)) if rng.random() < _FROM_CORPUS else len(CORPUS)
        found = arrival(rng, number, to)
        if not found.until_gone and not (found.entry and waits(found.entry)):
            return found


def record_ids(found: Arrival, prefix: str) -> list[str]:
    """Return the ids of the records that it writes itself: some are of the wrong type, or cannot be read."""
    start = f"{prefix}:job:"
    keys = [command[1] for command in found.commands if command[0] in {"SET", "HSET"}]
    return [key.removeprefix(start) for key in keys if key.startswith(start)]


class Hostile(Fault):
    """Something in a queue, on a channel or among the records that no client of jaas would send."""

    lane = "hostile"
    excuses = False

    def draw(self) -> None:
        self.parameters["seed"] = self.rng.random()

    def inject(self, bench: Bench) -> dict[str, Any]:
        with bench.client() as client:
            holders = client.zrange(f"{bench.prefix}:holders", 0, -1)
            holder = as_text(holders[-1]) if holders else "nobody"
            to = Address(bench.prefix, bench.prefix, holder, channel_prefix(bench.prefix, 0))
            found = made(self.parameters["seed"], to)
            for command in found.commands:
                try:
                    client.execute_command(*command)
                except redis.RedisError as error:
                    # Down, or full: whether it has arrived is not known, and nothing is expected of it.
                    return {"title": found.title, "records": record_ids(found, bench.prefix), "refused": str(error)}
        task_id = carried_id(found.entry) if found.entry else ""
        return {
            "title": found.title,
            "records": record_ids(found, bench.prefix),
            "ends": [job_id_of(task_id)] if task_id else [found.job_id] if found.job_id else [],
        }
