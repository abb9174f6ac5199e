"""This room's Lua scripts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from jaas_submit.connection.scripts import ScriptFolder, ScriptRunner
from jaas_submit.model.wire_names import DEFAULT_PREFIX

if TYPE_CHECKING:
    import redis

__all__ = ["Base", "source"]

_FOLDER: Final = ScriptFolder("jaas_submit.output", ("head", "budget"))


class Base(ScriptRunner):
    """Shared by all classes of this room.

    Args:
        client: a connection as ``connect`` makes it.
        prefix: first part of every key.
    """

    def __init__(self, client: redis.Redis, prefix: str = DEFAULT_PREFIX) -> None:
        super().__init__(client, prefix, source)


@cache
def source(name: str) -> str:
    """Return the whole text of a script: the shared functions that it needs, and its own text.

    Args:
        name: its name in ``scripts``, without ``.lua``.
    """
    return _FOLDER.source(name)
