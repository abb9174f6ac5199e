"""Running this room's Lua scripts."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final

import redis
from redis.commands.core import Script

from jaas_submit.connection.connection import redis_errors
from jaas_submit.model.wire_names import DEFAULT_PREFIX

__all__ = ["Base", "source"]

_NEEDS: Final = "-- Needs: shared/"

_SHARED: Final = ("head", "budget")
"""The files in ``scripts/shared``, in the order in which they build on each other."""

_to_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Base:
    """Shared by all classes of this room.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: first part of every key.
    """

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX) -> None:
        self.client = client
        self.prefix = prefix
        self._scripts: dict[str, Script] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prefix={self.prefix!r})"

    def key(self, *parts: object) -> str:
        """Return a key: the prefix and what follows it."""
        return ":".join([self.prefix, *map(str, parts)])

    def run(self, script: str, what: str, *texts: bytes, **named: object) -> Any:
        """Run a script and return its answer.

        Args:
            script: its name in ``scripts``, without ``.lua``.
            what: its subject, for errors.
            texts: its further arguments, as they are.
            named: its named arguments; those that are None are left out.

        Raises:
            LedgerUnavailable: Redis cannot be reached, or refuses.
        """
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(source(script))
        given = {"prefix": self.prefix, **{name: value for name, value in named.items() if value is not None}}
        with redis_errors(what):
            return self._scripts[script](args=[_to_json(given), *texts])


@cache
def source(name: str) -> str:
    """Return the whole text of a script: the shared functions that it needs, and its own text.

    Args:
        name: its name in ``scripts``, without ``.lua``.
    """
    text = _read(name)
    last = next(line.removeprefix(_NEEDS) for line in text.splitlines() if line.startswith(_NEEDS))
    parts = _SHARED[: _SHARED.index(last) + 1]
    return "".join([*(_read(f"shared/{part}") for part in parts), text])


def _read(name: str) -> str:
    return files("jaas_submit.output").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
