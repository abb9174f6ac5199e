"""What policy and signatures cost: the same jobs with both and with neither, in turns."""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from pathlib import Path
from typing import Final

from benchmarks.harness import Options, Row, Target, say
from benchmarks.sightings import Sightings
from benchmarks.stats import percentile, ratios, turns
from jaas_submit import Client, JobSpec
from jaas_submit.model.wire_names import service_name
from jaas_submit.signing import Signer, read_signing_key
from jaas_submit.signing.keys import new_pair
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

__all__ = ["PART"]

_PAUSE: Final = 0.5
"""Seconds between two jobs, so that the worker has nothing left to do."""

_OFF: Final = "neither policy nor signatures"
_ON: Final = "policy with queues, tenants and jobs in flight; signatures required"

_POLICY: Final = """
level = "baseline"
rules.in_flight = 100000
rules.images.allow = ["jaas-*", "registry.example/team/*"]
rules.resources.memory = {default = "64M", maximum = "1G"}
rules.run_timeout = "1h"
rules.env = ["APP_*", "LEVEL"]
tenants.blue.rules.attempts = 5
tenants.blue.rules.in_flight = 100000
"""

_SPEC: Final = JobSpec(
    image=TEST_IMAGE, command=["sleep", "0.1"], env={"LEVEL": "info"}, run_timeout="10m", limits={"memory": "64M"}
)


class _Walls:
    name = "walls"
    title = "Policy and signatures"
    caveats = (
        "Two workers on one node and one Redis: one with the level `privileged` and no keys, one with a policy for its "
        "queue and tenant that requires EdDSA signatures. Jobs go to them in turns, one at a time.",
        "The ratios compare neighbours in time: each job with the one before or after it.",
    )

    def run(self, options: Options) -> list[Row]:
        """Measure one job at a time, and submission in bulk."""
        jobs = 2 if options.short else max(options.jobs // 4, 20)
        count, rounds = (50, 1) if options.short else (2_000, 15)
        with contextlib.ExitStack() as stack:
            clients, idle = _clients(options, stack)
            seen = stack.enter_context(Sightings([options.engine]))
            say(f"bench: walls: {jobs} jobs each, one at a time")
            latency = _latency(clients, seen, jobs)
            say(f"bench: walls: {rounds} times {count} jobs each, in bulk")
            rates = _rates(idle, count, rounds)
        rows = []
        for case, found in latency.items():
            rows += [
                Row(case, "submit to service created, p50", "ms", percentile(found, 50), tuple(found)),
                Row(case, "submit to service created, p95", "ms", percentile(found, 95)),
                Row.median(case, "submission in bulk", "jobs/s", rates[case]),
            ]
        created, bulk = ratios(latency[_ON], latency[_OFF]), ratios(rates[_ON], rates[_OFF])
        what = "as a part of that without"
        return [
            *rows,
            Row.median("with both", f"submit to service created, {what}", "", created, Target("<=", 1.1)),
            Row.median("with both", f"submission in bulk, {what}", "", bulk, Target(">=", 0.8)),
        ]


def _clients(options: Options, stack: contextlib.ExitStack) -> tuple[dict[str, Client], dict[str, Client]]:
    """Start a worker with both and one with neither; return clients of their queues, and of queues that none takes."""
    folder = options.out / f"walls-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True)
    private, public = new_pair()
    made = {
        _OFF: _installation(options, policy="privileged"),
        _ON: _installation(
            options, policy_file=_policy(folder), verify_keys=_keys(folder, public), require_signature=True
        ),
    }
    clients: dict[str, Client] = {}
    idle: dict[str, Client] = {}
    for case, one in made.items():
        stack.callback(one.close)
        stack.callback(_forget, one)
        signer = Signer(read_signing_key(private), "bench", one.prefix, "team") if case == _ON else None
        for found, queue in ((clients, one.queue), (idle, f"{one.queue}-idle")):
            client = Client(one.redis_url, queue=queue, prefix=one.prefix, signer=signer)
            found[case] = stack.enter_context(client)
        one.worker(one.prefix).start()
    return clients, idle


def _policy(folder: Path) -> Path:
    file = folder / "policy.toml"
    file.write_text(_POLICY)
    return file


def _keys(folder: Path, public: str) -> Path:
    file = folder / "keys.toml"
    file.write_text(f'[bench]\nalgorithm = "EdDSA"\nproducer = "team"\ntenant = "blue"\nkey = """\n{public}"""\n')
    return file


def _latency(clients: dict[str, Client], seen: Sightings, jobs: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {case: [] for case in clients}
    for number in range(-1, jobs):  # what is done once is done by the first
        for case in turns(list(clients), number):
            time.sleep(_PAUSE)
            asked = time.time()
            handle = clients[case].submit(_SPEC)
            handle.wait(120)
            service = service_name(handle.id, 1)
            eventually(lambda service=service: service in seen.created, 20, f"the engine to tell of {service}")  # type: ignore[misc] # called at once
            if number >= 0:
                found[case].append(1000 * (seen.created[service] - asked))
    return found


def _rates(clients: dict[str, Client], count: int, rounds: int) -> dict[str, list[float]]:
    """Submit in bulk to queues that no worker takes from."""
    found: dict[str, list[float]] = {case: [] for case in clients}
    for number in range(rounds):
        for case in turns(list(clients), number):
            began = time.perf_counter()
            clients[case].submit_many(itertools.repeat(_SPEC, count))
            found[case].append(count / (time.perf_counter() - began))
    return found


def _installation(options: Options, **settings: object) -> Installation:
    name = f"b-{uuid.uuid4().hex[:8]}"
    return Installation(options.redis_url, options.engine, name, options.out, remove_delay=0, **settings)


def _forget(made: Installation) -> None:
    client = made.ledger.client
    for key in client.scan_iter(f"{made.prefix}*", count=5000):
        client.unlink(key)
    client.close()


PART = _Walls()
