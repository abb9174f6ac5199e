"""Which process of this machine an agent is, so that its successor can see that it has ended."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ProcessIdentity"]

_PARTS: Final = 5

_CONTAINER: Final = re.compile(r"[0-9a-f]{12}")
"""What an engine calls a container's host, unless somebody names it."""

_MOUNTED: Final = re.compile(r"/containers/([0-9a-f]{12})[0-9a-f]{52}/hostname /etc/hostname ")
"""A container's own file for its host's name. Source: proc(5), /proc/PID/mountinfo, fields 4 and 5."""


class ProcessIdentity(NamedTuple):
    """One process; empty where the system does not tell.

    Source of the fields: proc(5), /proc/sys/kernel/random/boot_id, /proc/PID/ns/pid, and field 22 of /proc/PID/stat.
    """

    boot: str = ""
    """This start of the machine."""
    namespace: str = ""
    """Of process ids: a container has one of its own."""
    pid: str = ""
    started: str = ""
    """When, in the machine's ticks: process ids are used again."""
    host: str = ""
    """The first digits of the id of its container; outside of one the host's name."""

    @classmethod
    def own(cls) -> ProcessIdentity:
        """Return this process' identity."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            namespace = os.readlink("/proc/self/ns/pid")
        except OSError:
            return cls()
        own = str(os.getpid())
        return cls(boot, namespace, own, _started(own) or "", _container() or socket.gethostname())

    @classmethod
    def parse(cls, text: str) -> ProcessIdentity:
        """Return what ``str`` has made a text of; empty if the text is something else."""
        parts = text.split(" ")
        return cls(*parts) if len(parts) == _PARTS else cls()

    def __str__(self) -> str:
        return " ".join(self) if all(self) else ""

    def has_ended(self) -> bool:
        """Return whether it has certainly ended, as far as a process in the same namespace can see."""
        own = ProcessIdentity.own()
        if not all(self) or not self.pid.isdecimal() or (self.boot, self.namespace) != (own.boot, own.namespace):
            return False
        started = _started(self.pid)
        return _is_missing(self.pid) if started is None else started != self.started

    def other_container(self) -> str:
        """Return the name of the container in which it ran on this machine; empty if it ran beside this process."""
        own = ProcessIdentity.own()
        there = all(self) and self.boot == own.boot and self.namespace != own.namespace
        return self.host if there and _CONTAINER.fullmatch(self.host) else ""


def _container() -> str:
    """Return the first digits of the id of this process' container; empty outside of one, or if nothing tells."""
    try:
        found = _MOUNTED.search(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def _is_missing(pid: str) -> bool:
    """Return whether there is certainly no process with an id."""
    try:
        os.kill(int(pid), 0)  # sends nothing
    except ProcessLookupError:
        return True
    except (OSError, OverflowError, ValueError):  # it may not be asked about, or is no id at all
        return False
    return False


def _started(pid: str) -> str | None:
    """Return when a process was started; empty if it has ended, None if its file cannot be read."""
    try:
        text = Path("/proc", pid, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in {"Z", "X"} else fields[18]
