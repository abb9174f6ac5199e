"""The Lua scripts of a room: their text, as Redis gets it, and how they are run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jaas_submit.connection.connection import database_of, redis_errors
from jaas_submit.model.wire_names import channel_prefix

if TYPE_CHECKING:
    import redis
    from redis.commands.core import Script

__all__ = ["ScriptFolder", "ScriptRunner"]

_NEEDS: Final = "-- Needs: shared/"

# NaN and infinity are not in JSON: Redis would refuse the whole script.
_to_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class ScriptFolder:
    """The folder ``scripts`` of a room.

    Args:
        package: the room, such as ``jaas_submit.ledger``.
        shared: the files in ``scripts/shared``, in the order in which they build on each other.
    """

    def __init__(self, package: str, shared: Sequence[str]) -> None:
        self._shared = tuple(shared)

        @cache
        def read(name: str) -> str:
            return files(package).joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")

        self._read = read

    def source(self, name: str) -> str:
        """Return the text of a script: the shared functions that it needs, and its own text.

        Args:
            name: its path in ``scripts``, without ``.lua``.
        """
        return "".join(self._read(part) for part in [*self.needed_by(name), name])

    def needed_by(self, name: str) -> list[str]:
        """Return the shared files that a script begins with: the one that its head says it needs, and those before it.

        Redis runs all of it at each call, so a script includes only what it needs.

        Raises:
            ValueError: its head does not say what it needs.
        """
        said = [line.removeprefix(_NEEDS) for line in self._read(name).splitlines() if line.startswith(_NEEDS)]
        if len(said) != 1:
            raise ValueError(f"{name}.lua does not say what it needs")
        return [f"shared/{part}" for part in self._shared[: self._shared.index(said[0]) + 1]]


class ScriptRunner:
    """Runs the scripts of a room.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: first part of every key.
        source: returns a script's text by its name.
    """

    def __init__(self, client: redis.Redis, prefix: str, source: Callable[[str], str]) -> None:
        self.client = client
        self.prefix = prefix
        self.channels = channel_prefix(prefix, database_of(client))
        """First part of every channel. Channels belong to the server, not to a database, so that it names both."""
        self._source = source
        self._scripts: dict[str, Script] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prefix={self.prefix!r})"

    def key(self, *parts: object) -> str:
        """Return a key: the prefix and what follows it."""
        return ":".join([self.prefix, *map(str, parts)])

    def channel(self, *parts: object) -> str:
        """Return the name of a channel: prefix, database and what follows them."""
        return ":".join([self.channels, *map(str, parts)])

    def run(self, script: str, what: str, *texts: str | bytes, **named: object) -> Any:
        """Run a script and return its answer.

        Args:
            script: its path in ``scripts``, without ``.lua``.
            what: its subject, for errors.
            texts: its further arguments, as they are.
            named: its named arguments; those that are None are left out.

        Raises:
            LedgerUnavailable: Redis cannot be reached, or refuses.
        """
        with redis_errors(what):
            return self._script(script)(args=[self._arguments(named), *texts])

    def _script(self, name: str) -> Script:
        """Return a script; Redis is sent the text once and then its digest."""
        if name not in self._scripts:
            self._scripts[name] = self.client.register_script(self._source(name))
        return self._scripts[name]

    def _arguments(self, named: dict[str, object]) -> str:
        given = {name: value for name, value in named.items() if value is not None}
        return _to_json({"prefix": self.prefix, "channels": self.channels, **given})
