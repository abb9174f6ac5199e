"""PURE: what keeps a container's output on its node, and what can be relied on of what it hands out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from jaas_submit.model.bounds import parse_size

if TYPE_CHECKING:  # an agent has no pydantic
    from jaas_submit.model.job_spec import JobSpec

__all__ = ["LogDriver", "LogSize"]

_READABLE: Final = frozenset({"local", "json-file", "journald"})
"""Drivers that hand out output themselves. With the others an engine keeps a copy in the format of ``local``, unless
``cache-disabled`` says that it does not. Source: moby, daemon/logger/loggerutils/cache."""

_DEFAULTS: Final[dict[str, tuple[str, str]]] = {"local": ("20m", "5"), "json-file": ("-1", "1")}
"""max-size and max-file where they are not given. Source: moby, daemon/logger/local and jsonfilelog."""

_LINE_BYTES: Final = {"local": 40, "json-file": 80}
_PIECE_BYTES: Final = 96
"""What a driver writes beside the text of a line at most: time, stream, lengths. With a piece of a long line also the
line's id (64 characters)."""

_GROWTH: Final = {"local": 1, "json-file": 6}
"""As how many characters a driver writes one, at most."""


class LogSize(NamedTuple):
    """How much output was read."""

    bytes: int = 0
    lines: int = 0
    """How many frames."""
    pieces: int = 0
    """How many of them have no line end."""


class LogDriver(NamedTuple):
    """A log driver with its options; without a name it is the engine's own choice."""

    name: str = ""
    options: Mapping[str, str] = MappingProxyType({})

    def changed_by(self, spec: JobSpec | None) -> Self:
        """Return what a job's containers get.

        Args:
            spec: the job, which may name another driver, or change options of this one.
        """
        if spec is None:
            return self
        if spec.log_driver is not None:
            return self._replace(name=spec.log_driver, options=spec.log_options)
        return self._replace(options={**self.options, **spec.log_options})

    @property
    def request(self) -> dict[str, Any]:
        """The part of a service's request that names it; empty where the engine chooses."""
        chosen = {"Name": self.name, "Options": dict(self.options)}
        return {"LogDriver": chosen} if self.name or self.options else {}

    @property
    def unreadable(self) -> str:
        """Why nothing can be read of it; empty where something can, or where that is not known."""
        if self.name == "none":
            return "its output is not kept (log driver none)"
        if self.name and self.name not in _READABLE and self.options.get("cache-disabled") == "true":
            return f"its output cannot be read (log driver {self.name} with cache-disabled)"
        return ""

    @property
    def may_replace_bytes(self) -> bool:
        """Whether U+FFFD may stand for bytes that were no valid UTF-8. json-file stores text."""
        return self.name in {"", "json-file"}

    @property
    def may_leave_out_line_ends(self) -> bool:
        """Whether a long line may have lost its line end. ``local`` does so, also as the copy beside other drivers."""
        return self.name not in {"", "json-file", "journald"}

    def may_have_rotated(self, size: LogSize, *, from_start: bool = False) -> bool:
        """Return whether output may have been removed because there was so much of it.

        A driver that rotates keeps at least all files but one full, so that less than that was never rotated away. It
        removes nothing before all files are full.

        Args:
            size: what was read.
            from_start: it was read from the container's start on; otherwise it is what was still there later.
        """
        max_size, max_file = _DEFAULTS.get(self.name, ("-1", "1"))
        max_size = self.options.get("max-size", max_size)
        if max_size == "-1" or self.name not in _DEFAULTS:
            return False
        written = size.bytes * _GROWTH[self.name] + size.lines * _LINE_BYTES[self.name] + size.pieces * _PIECE_BYTES
        try:
            full_files = int(self.options.get("max-file", max_file)) - (0 if from_start else 1)
            return written >= parse_size(max_size) * full_files
        except ValueError:  # the engine would have refused it, so it is of a kind that is not known here
            return True
