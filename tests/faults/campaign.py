"""The fault campaign: jobs on the three-node lab, real workers and agents, random faults, and a verdict.

``scripts/faults`` sets the lab up and runs this module; ``--help`` lists the options. A campaign leaves a folder with
the history (JSON lines), the workers' logs and Redis' log, and prints a table. Exit code 1: the promise was broken.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import redis

from jaas_submit.model.wire_names import LABEL_PREFIX
from tests.faults.agent_faults import AGENT_FAULTS
from tests.faults.baseline import NaiveChannel
from tests.faults.checker import check
from tests.faults.collection import Collection
from tests.faults.fault import Bench
from tests.faults.faults import FAULTS, LANES, Planned, schedule
from tests.faults.followers import Followers
from tests.faults.history import History, now, read
from tests.faults.lab import NODES, Lab
from tests.faults.processes import AGENT_READY, JAAS_AGENT, JAAS_WORKER, NAIVE_WORKER, Worker
from tests.faults.proxies import EngineProxy, ProxyLoop, RedisProxy
from tests.faults.recorder import Recorder
from tests.faults.report import Report, table
from tests.faults.traffic import JaasChannel, Traffic
from tests.support.redis_server import OwnRedis

__all__ = ["Campaign", "main"]

_PORTS = range(21300, 32000, 10)
"""Candidates for the first of the ports used; below the range that the kernel gives to outgoing connections, since
Redis must get the same one again after each restart."""

_QUIET = 180.0
"""Seconds after the last heal, or after a job's end, within which another one must reach its outcome, if any is left:
how many containers a machine starts in a second is not what is tested."""


_FOLLOWERS_S = 60.0
"""Seconds that those have to end who follow jobs that have ended."""


def say(text: str) -> None:
    """Print a line with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Campaign:
    """One campaign.

    Args:
        options: of the command line.
        mode: ``jaas`` or ``baseline``.
        folder: is made, for all that it leaves.
    """

    def __init__(self, options: argparse.Namespace, mode: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        self.options = options
        self.mode = mode
        self.folder = folder
        self.prefix = f"faults-{mode}-{options.seed}-{os.getpid()}"
        self.history = History(folder / "history.jsonl")
        self.recorder = Recorder(folder / "recorder")
        self._stopped = threading.Event()
        self._over = threading.Event()
        self._left = sys.maxsize
        hosts = os.environ.get("JAAS_LAB_HOSTS", "").split()
        if len(hosts) != 3:
            sys.exit("faults: JAAS_LAB_HOSTS must name three engines; run scripts/faults")
        lab = Lab(hosts)
        self.loop = ProxyLoop()
        server = OwnRedis(folder / "redis", appendfsync=options.fsync)
        server.port = next(first for first in _PORTS if all(_free(first + number) for number in range(7)))
        self.bench = Bench(lab, server, [], [], [], self.prefix)
        program = JAAS_WORKER if mode == "jaas" else NAIVE_WORKER
        for number in range(3):
            proxy = RedisProxy(self.loop, server.port, server.port + 1 + number)
            engine = EngineProxy(self.loop, lab.socket(number + 1), folder / f"engine{number + 1}.sock")
            env = {
                "JAAS_REDIS_URL": proxy.url,
                "DOCKER_HOST": f"unix://{engine.path}",
                "JAAS_PREFIX": self.prefix,
                "JAAS_QUEUE": self.prefix,
                "JAAS_POLICY": "privileged",  # the traffic's jobs mount a folder of the host
            }
            self.bench.redis_proxies.append(proxy)
            self.bench.engine_proxies.append(engine)
            self.bench.workers.append(Worker(f"worker{number + 1}", program, env, folder, self.history))
            if mode == "jaas":
                self._add_agent(number, server, env)
        kind: type[Any] = JaasChannel if mode == "jaas" else NaiveChannel
        self.channel = kind(server.url, self.prefix, self.prefix, self.recorder)
        jobs = options.jobs or int(options.minutes * 60)
        self.collection = Collection(mode, self.bench, self.channel, self.recorder, self.history)
        self.followers = Followers(self.channel.client, self.history) if mode == "jaas" else None
        follow = self.followers.follow if self.followers else lambda _number, _job_id: None
        rate = jobs / (options.minutes * 60)
        self.traffic = Traffic(self.channel, self.history, options.seed, rate, jobs, follow)

    def _add_agent(self, number: int, server: OwnRedis, env: dict[str, str]) -> None:
        proxy = RedisProxy(self.loop, server.port, server.port + 4 + number)
        engine = EngineProxy(self.loop, self.bench.lab.socket(number + 1), self.folder / f"agent{number + 1}.sock")
        env = {**env, "JAAS_REDIS_URL": proxy.url, "DOCKER_HOST": f"unix://{engine.path}", "JAAS_LOG_FORMAT": "console"}
        agent = Worker(f"agent{number + 1}", JAAS_AGENT, env, self.folder, self.history, AGENT_READY)
        self.bench.agent_redis.append(proxy)
        self.bench.agent_engines.append(engine)
        self.bench.agents.append(agent)

    def run(self) -> Report:
        """Run the campaign and return the verdict."""
        options = self.options
        # A plain Celery worker ends of the first hostile entry, and the rest of its campaign would say nothing.
        others = {"hostile", *AGENT_FAULTS} if self.mode == "baseline" else set()
        kinds = [name for name in options.faults if name not in others]
        plan = schedule(options.seed, options.minutes * 60, kinds)
        self.history.add(
            "run",
            mode=self.mode,
            seed=options.seed,
            minutes=options.minutes,
            fsync=options.fsync,
            prefix=self.prefix,
            offset=time.time() - now(),
        )
        say(f"{self.mode}: seed {options.seed}, {options.minutes:g} minutes, {len(plan)} faults, folder {self.folder}")
        for item in plan:
            if item.lane == "hostile":  # what it is shows when it is injected
                continue
            say(f"  {item.at:7.1f} s  {item.lane:7} {item.number:4} {item.kind:12} {item.fault.parameters}")
        try:
            if not self.bench.lab.wait_whole(90):
                sys.exit("faults: the lab is not whole; run scripts/lab up")
            self.bench.redis.start()
            for processes in (self.bench.agents, self.bench.workers):  # the nodes' leases are the agents' at first
                for process in processes:
                    process.start()
                self._wait_for(partial(self._all_ready, processes), 60, "workers or agents to be ready")
            threading.Thread(target=self._watch_swarm, name="swarm", daemon=True).start()
            self._faults(plan)
            self._settle()
            self.collection.collect(self._wait_for)
            if self.followers:
                self.followers.collect(_FOLLOWERS_S)
        finally:
            self._close()
        return check(read(self.history.path))

    # -- the campaign -------------------------------------------------------------------------------------------------

    @staticmethod
    def _all_ready(processes: list[Worker]) -> bool:
        return all(one.log.exists() and one.ready in one.log.read_text(errors="replace") for one in processes)

    def _wait_for(self, condition: Callable[[], bool], timeout: float, what: str) -> bool:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if condition():
                    return True
            except (redis.RedisError, OSError):
                pass
            time.sleep(0.5)
        say(f"{self.mode}: waited {timeout:g} s in vain for {what}")
        return False

    def _faults(self, plan: list[Planned]) -> None:
        started = now()
        self.traffic.start()
        lanes = [
            threading.Thread(target=self._lane, args=([item for item in plan if item.lane == lane], started))
            for lane in LANES
        ]
        for lane in lanes:
            lane.start()
        try:
            while now() - started < self.options.minutes * 60 or any(lane.is_alive() for lane in lanes):
                time.sleep(0.5)
                if int(now() - started) % 60 == 0:
                    say(f"{self.mode}: {now() - started:.0f} s, {self.traffic.submitted} orders")
                    time.sleep(1)
        finally:
            self._stopped.set()
            for lane in lanes:
                lane.join()
        self.traffic.stop()

    def _watch_swarm(self) -> None:
        """Note for each node from when to when its manager is of use: a swarm takes its time after a fault."""
        known: dict[int, bool] = {}
        while not self._over.wait(1.0):
            for node in NODES:
                asked = now()
                answers = self.bench.lab.answers(node)
                if known.get(node) != answers:
                    known[node] = answers
                    self.history.add("manager", t=asked, node=node, answers=answers)

    def _lane(self, plan: list[Planned], started: float) -> None:
        """Inject a lane's faults one after the other; one that took longer moves those behind it."""
        behind = 0.0
        for item in plan:
            due = started + item.at + behind
            if self._stopped.wait(max(due - now(), 0)) or now() > started + self.options.minutes * 60:
                return
            self._one(item)
            behind = max(behind, now() - (started + item.at + item.fault.seconds))

    def _one(self, item: Planned) -> None:
        fault, add = item.fault, self.history.add
        add(
            "inject",
            fault=item.number,
            kind=item.kind,
            lane=item.lane,
            parameters=dict(fault.parameters),
            excuses=fault.excuses,
        )
        try:
            known = fault.inject(self.bench)
            add("injected", fault=item.number, known=known)
            say(f"{self.mode}: fault {item.number} {item.kind} {fault.parameters} {str(known or '')[:200]}")
            self._stopped.wait(fault.seconds)
        except Exception as error:  # noqa: BLE001 (a fault that could not be injected is told, and the rest go on)
            add("fault_error", fault=item.number, error=repr(error)[:500])
            say(f"{self.mode}: fault {item.number} {item.kind} could not be injected: {error!r}")
        finally:
            self._heal(item)

    def _heal(self, item: Planned) -> None:
        for _ in range(5):
            try:
                item.fault.heal(self.bench)
                break
            except Exception as error:  # noqa: BLE001 (it must be healed, or all that follows says nothing)
                self.history.add("fault_error", fault=item.number, error=repr(error)[:500])
                say(f"{self.mode}: fault {item.number} {item.kind} could not be healed: {error!r}")
                time.sleep(2)
        self.history.add("heal", fault=item.number, kind=item.kind)

    # -- after it -----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        say(f"{self.mode}: {self.traffic.submitted} orders submitted; waiting for the last outcomes")
        self.history.add("quiet")
        whole = self.bench.lab.wait_whole(90)
        self.history.add("whole", yes=whole)
        while self._wait_for(self._fewer_open, _QUIET, "one of the last outcomes"):
            say(f"{self.mode}: {self._left} jobs without an outcome")
            # Not at once: a chord's body may be on its way.
            time.sleep(5)
            if not self._left and not self.collection.open():
                return

    def _fewer_open(self) -> bool:
        before, self._left = self._left, self.collection.open()
        return self._left < before or not self._left

    def _close(self) -> None:
        self._stopped.set()
        self._over.set()
        for process in (*self.bench.workers, *self.bench.agents):
            process.close()
        self.bench.redis.stop()
        self.history.add("end")
        self.history.close()
        try:
            self.bench.lab.remove_all(f"{LABEL_PREFIX}={self.prefix}")
        except Exception as error:  # noqa: BLE001 (the verdict is what counts)
            say(f"{self.mode}: services could not be removed: {error!r}")
        self.loop.close()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults are injected (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="replays the same jobs and faults (default 1)")
    parser.add_argument("--jobs", type=int, default=0, help="how many orders at most (default 60 a minute)")
    parser.add_argument("--faults", default=",".join(FAULTS), help="kinds, separated by commas (default all)")
    parser.add_argument("--baseline", action="store_true", help="the same against a plain Celery task, too")
    parser.add_argument("--only-baseline", action="store_true", help="nothing but the baseline")
    parser.add_argument(
        "--fsync", choices=["everysec", "always"], default="everysec", help="of Redis' append-only file"
    )
    parser.add_argument("--folder", type=Path, default=None, help="for the history and the logs")
    parser.add_argument("--check", type=Path, default=None, metavar="HISTORY", help="only judge a history file again")
    options = parser.parse_args(arguments)
    options.faults = [name for name in options.faults.split(",") if name]
    for name in options.faults:
        if name not in FAULTS:
            parser.error(f"no such fault: {name}; there are {', '.join(FAULTS)}")
    return options


def _print(reports: list[Report]) -> int:
    print(table(reports))
    for report in reports:
        if report.mode == "jaas":
            for finding in report.findings:
                print(f"{finding.kind}: {finding.job}: {finding.detail}")
            print("outcomes:", dict(report.outcomes))
            print("outcomes of hostile entries:", dict(report.hostile_outcomes))
    return int(any(report.failed for report in reports if report.mode == "jaas"))


def main(arguments: list[str]) -> int:
    """Run the campaign that the command line describes; return the exit code."""
    options = _options(arguments)
    if options.check:
        return _print([check(read(options.check))])
    folder = options.folder or Path("/var/tmp/jaas-faults") / f"{options.seed}-{datetime.now():%m%d-%H%M%S}"
    modes = ["baseline"] if options.only_baseline else ["jaas", "baseline"] if options.baseline else ["jaas"]
    reports = [Campaign(options, mode, folder / mode).run() for mode in modes]
    code = _print(reports)
    (folder / "table.md").write_text(table(reports) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
