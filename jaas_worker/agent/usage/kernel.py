"""The kernel's counters of a container of this machine, read from cgroup files and /proc, also at its very end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jaas_worker.agent.usage.counters import (
    V1_FILES,
    V2_FILES,
    Counters,
    of_cgroup_v1,
    of_cgroup_v2,
    with_network,
    with_process_io,
)

__all__ = ["KernelCounters", "open_counters"]

_MOST_BYTES: Final = 64 * 1024
"""Of a file that is read: a machine may have hundreds of devices."""


class KernelCounters:
    """The counters of one container; close it.

    Its main process is watched by a file descriptor, which becomes readable when that process has ended. The cgroups
    are there a little longer, until the engine's runtime removes them. The network's file stays open, because a
    process that has ended has no network any more.

    Args:
        process: descriptor of the main process (pidfd).
        network: of its ``/proc/PID/net/dev``; None where its network is the node's.
        io: of its ``/proc/PID/io``; None where the kernel has none.
        files: name -> path of the cgroups' files.
        unified: they are of cgroup version 2.
    """

    def __init__(
        self, process: int, network: int | None, io: int | None, files: Mapping[str, Path], *, unified: bool
    ) -> None:
        self.process = process
        self._network = network
        self._io = io
        self._files = files
        self._unified = unified

    def read(self) -> Counters:
        """Return the counters; those that cannot be read are not known."""
        texts = {name: text for name, path in self._files.items() if (text := _text(path)) is not None}
        counters = of_cgroup_v2(texts) if self._unified else of_cgroup_v1(texts)
        if network := _again(self._network):
            counters = with_network(counters, network)
        if counters.read_bytes is None and counters.written_bytes is None and (io := _again(self._io)):
            counters = with_process_io(counters, io)
        return counters

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in (self.process, self._network, self._io):
            if descriptor is not None:
                os.close(descriptor)


def open_counters(
    container_id: str, pid: int, *, own_network: bool, proc: Path = Path("/proc")
) -> KernelCounters | None:
    """Return the counters of a container; None where this process does not see them, as inside a container.

    Args:
        container_id: the container.
        pid: its main process, by its engine; another one may have this number here.
        own_network: its network is not the node's.
        proc: where the kernel shows processes.
    """
    try:
        process = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return None
    try:  # the process has the number as long as its cgroups can be read, and the descriptor is its own
        groups = (proc / str(pid) / "cgroup").read_text()
        files, unified = _files(groups, (proc / "self" / "mountinfo").read_text())
    except (OSError, ValueError):
        files, groups, unified = {}, "", False
    if container_id not in groups or not files:
        os.close(process)
        return None
    network = _opened(proc / str(pid) / "net" / "dev") if own_network else None
    return KernelCounters(process, network, _opened(proc / str(pid) / "io"), files, unified=unified)


def _files(groups: str, mounts: str) -> tuple[dict[str, Path], bool]:
    """Return name -> path of the files of a process's cgroups that exist, and whether they are of version 2.

    Args:
        groups: text of its ``/proc/PID/cgroup``.
        mounts: text of this process's mountinfo.
    """
    roots: dict[str, tuple[str, str]] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        root, point = before.split()[3:5]
        if kind == "cgroup2":
            roots.setdefault("", (root, point))
        elif kind == "cgroup":
            for controller in options.rpartition(" ")[2].split(","):
                roots.setdefault(controller, (root, point))
    folders: dict[str, Path] = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in roots:
                root, point = roots[controller]
                folders[controller] = Path(point) / path.removeprefix("" if root == "/" else root).lstrip("/")
    wanted = {name: folders[of] / name for name, of in V1_FILES.items() if of in folders}
    found = {name: path for name, path in wanted.items() if path.exists()}
    if found or "" not in folders:
        return found, False
    unified = {name: folders[""] / name for name in V2_FILES}
    return {name: path for name, path in unified.items() if path.exists()}, True


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _again(descriptor: int | None) -> str:
    """Return the present text of an open file; empty where there is none."""
    try:
        return "" if descriptor is None else os.pread(descriptor, _MOST_BYTES, 0).decode("ascii", "replace")
    except OSError:
        return ""


def _text(path: Path) -> str | None:
    try:
        with path.open("rb", buffering=0) as file:
            return (file.read(_MOST_BYTES) or b"").decode("ascii", "replace")
    except OSError:
        return None
