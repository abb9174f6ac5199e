"""PURE: the kernel's counters of a container, from cgroup files (version 1 and 2), /proc/PID/net/dev, or the engine.

Source: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; Docker's API, ``ContainerStats``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

__all__ = [
    "V1_FILES",
    "V2_FILES",
    "Counters",
    "of_cgroup_v1",
    "of_cgroup_v2",
    "of_engine",
    "with_network",
    "with_process_io",
]

V1_FILES: Final = {
    "cpuacct.usage": "cpuacct",
    "memory.usage_in_bytes": "memory",
    "memory.max_usage_in_bytes": "memory",
    "blkio.throttle.io_service_bytes_recursive": "blkio",
}
"""Files of cgroup version 1 -> their controller."""

V2_FILES: Final = ("cpu.stat", "memory.current", "memory.peak", "io.stat")
"""Files of cgroup version 2; ``memory.peak`` is there from Linux 5.19 on."""


class Counters(NamedTuple):
    """What a container has used until now; None where that is not known."""

    cpu_seconds: float | None = None
    memory: int | None = None
    """Bytes at this moment."""
    peak_memory: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


def of_cgroup_v1(files: Mapping[str, str]) -> Counters:
    """Return the counters in a container's cgroups of version 1.

    Args:
        files: name -> text of ``V1_FILES``, those that there are.
    """
    nanos = _number(files.get("cpuacct.usage"))
    done = _operations(files.get("blkio.throttle.io_service_bytes_recursive", ""))
    return Counters(
        cpu_seconds=None if nanos is None else nanos / 1e9,
        memory=_number(files.get("memory.usage_in_bytes")),
        peak_memory=_number(files.get("memory.max_usage_in_bytes")),
        read_bytes=done.get("read"),
        written_bytes=done.get("write"),
    )


def of_cgroup_v2(files: Mapping[str, str]) -> Counters:
    """Return the counters in a container's cgroup of version 2.

    Args:
        files: name -> text of ``V2_FILES``, those that there are.
    """
    micros = next(iter(_values(files.get("cpu.stat", ""), "usage_usec")), None)
    io = files.get("io.stat")
    return Counters(
        cpu_seconds=None if micros is None else micros / 1e6,
        memory=_number(files.get("memory.current")),
        peak_memory=_number(files.get("memory.peak")),
        read_bytes=None if io is None else sum(_values(io.replace("=", " "), "rbytes")),
        written_bytes=None if io is None else sum(_values(io.replace("=", " "), "wbytes")),
    )


def with_network(counters: Counters, text: str) -> Counters:
    """Return counters with what all network interfaces but ``lo`` received and sent.

    Args:
        counters: those from a cgroup.
        text: of ``/proc/PID/net/dev``.
    """
    received = sent = 0
    for line in text.splitlines():
        name, colon, numbers = line.partition(":")
        fields = numbers.split()
        if colon and name.strip() != "lo" and len(fields) >= 9:
            received += int(fields[0])
            sent += int(fields[8])
    return counters._replace(received_bytes=received, sent_bytes=sent)


def with_process_io(counters: Counters, text: str) -> Counters:
    """Return counters with what a process, and those children that it has waited for, read and wrote on devices.

    Args:
        counters: those from a cgroup.
        text: of ``/proc/PID/io``.
    """
    words = text.replace(":", " ")
    done = {name: next(_values(words, name), None) for name in ("read_bytes", "write_bytes")}
    return counters._replace(read_bytes=done["read_bytes"], written_bytes=done["write_bytes"])


def of_engine(stats: Mapping[str, Any]) -> Counters:
    """Return the counters in the engine's answer to ``GET /containers/ID/stats``.

    Args:
        stats: the answer. Of a container that has ended it holds no counters.
    """
    cpu, memory = stats.get("cpu_stats") or {}, stats.get("memory_stats") or {}
    if "usage" not in memory:
        return Counters()
    io, networks = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive"), stats.get("networks")

    def done(what: str) -> int | None:
        return sum(int(one["value"]) for one in io if str(one["op"]).lower() == what) if io else None

    def passed(what: str) -> int | None:
        return sum(int(one[what]) for one in networks.values()) if networks else None

    return Counters(
        cpu_seconds=int(cpu["cpu_usage"]["total_usage"]) / 1e9,
        memory=int(memory["usage"]),
        peak_memory=int(memory["max_usage"]) if memory.get("max_usage") else None,
        read_bytes=done("read"),
        written_bytes=done("write"),
        received_bytes=passed("rx_bytes"),
        sent_bytes=passed("tx_bytes"),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None


def _values(text: str, name: str) -> Iterator[int]:
    """Yield the numbers behind a name."""
    words = text.split()
    return (int(number) for word, number in pairwise(words) if word == name)


def _operations(text: str) -> dict[str, int]:
    """Return operation -> bytes on all devices.

    Empty where no device is named: nothing was read or written, or the kernel does not count (from Linux 6.10 on it
    does so only for containers with a limit).
    """
    found: dict[str, int] = {}
    for line in text.splitlines():
        match line.split():
            case [_, operation, number]:
                found[operation.lower()] = found.get(operation.lower(), 0) + int(number)
    return found
