"""The machine's facts, and what processes use of it, from /proc."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import redis

from benchmarks.harness import Options

__all__ = ["Usage", "busy", "descendants", "engine_pids", "facts", "usage"]

_TICKS = os.sysconf("SC_CLK_TCK")
_REPO = Path(__file__).resolve().parents[1]
_USUAL = ("unix:///var/run/docker.sock", "unix:///run/docker.sock")


def facts(options: Options) -> dict[str, str]:
    """Return what a reader of the figures has to know of the machine."""
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    api = docker.APIClient(base_url=options.engine, version="auto")
    try:
        engine = api.version()["Version"]
        nodes = len(api.nodes())
    finally:
        api.close()
    with redis.Redis.from_url(options.redis_url) as client:
        server = client.info("server")["redis_version"]
    commit = subprocess.run(
        ["git", "-C", str(_REPO), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    version = importlib.metadata.version
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit.stdout.strip() or "unknown",
        "processor": f"{os.cpu_count()} x {cpus[0].partition(':')[2].strip() if cpus else platform.machine()}",
        "memory": f"{int(meminfo['MemTotal'].split()[0]) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "engine": f"Docker {engine}, {nodes} node{'s' if nodes > 1 else ''}",
        "Redis": server,
        "Celery, kombu": f"{version('celery')}, {version('kombu')}",
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


@dataclass(frozen=True, slots=True)
class Usage:
    """What some processes have used and use now."""

    cpu: float
    """Seconds of processor time, user and system, since they started."""
    memory: int
    """Bytes of resident memory that are not shared with others (RssAnon)."""
    threads: int
    files: int
    """Open file descriptors."""


def usage(*pids: int, children: bool = False) -> Usage:
    """Return what processes use, in sum; one that has ended counts as nothing.

    Source of the fields: proc(5), /proc/PID/stat (14 utime, 15 stime, 16 cutime, 17 cstime) and /proc/PID/status.

    Args:
        pids: the processes.
        children: count processor time of children that have ended, too.
    """
    cpu, memory, threads, files = 0.0, 0, 0, 0
    for pid in pids:
        folder = Path("/proc") / str(pid)
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            files += len(list((folder / "fd").iterdir()))
        cpu += sum(int(ticks) for ticks in fields[11 : 15 if children else 13]) / _TICKS
        memory += int(status.get("RssAnon", "0").split()[0]) * 1024
        threads += int(status.get("Threads", "0"))
    return Usage(cpu, memory, threads, files)


def busy() -> tuple[float, float]:
    """Return for how many seconds the machine's processors have worked since it started, and how many there were.

    Source of the fields: proc(5), /proc/stat (1 user, 2 nice, 3 system, 4 idle, 5 iowait, 6 irq, 7 softirq, 8 steal).
    """
    with Path("/proc/stat").open() as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    everything = sum(ticks)
    return (everything - ticks[3] - ticks[4]) / _TICKS, everything / _TICKS


def descendants(pid: int) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:  # grows while it is walked
        found += children.get(one, [])
    return found


def engine_pids(socket: str) -> tuple[int, ...]:
    """Return the processes of an engine: dockerd, containerd and all below them; none where dockerd is not seen.

    Args:
        socket: as in DOCKER_HOST, ``unix:///path``; of this machine.
    """
    daemons = list(_running("dockerd"))
    for daemon, words in daemons:
        hosts = [word.removeprefix("--host=") for word in words if "://" in word]
        # A packaged engine is given its socket by systemd (``-H fd://``), or takes the usual one.
        if socket in hosts or (socket in _USUAL and not any(host.startswith(("unix:", "tcp:")) for host in hosts)):
            found = descendants(daemon)
            if any(word.partition("=")[0] == "--containerd" for word in words):  # one that systemd runs, not a dockerd
                others = {one for pid, _ in daemons for one in descendants(pid)}
                found += [one for pid, _ in _running("containerd") if pid not in others for one in descendants(pid)]
            return tuple(found)
    return ()


def _running(program: str) -> Iterator[tuple[int, list[str]]]:
    """Return id and command line of each process that runs a program."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[0].rpartition("/")[2] == program:
                yield int(folder.name), words
