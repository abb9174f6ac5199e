"""The settings of an agent: those of a worker that it needs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from jaas_submit.errors import SpecError

if TYPE_CHECKING:
    from jaas_worker.settings import LogFormat, Settings

__all__ = ["AgentSettings", "read_apart"]


class AgentSettings(NamedTuple):
    """Settings of an agent; ``Settings`` says what each is."""

    redis_url: str
    prefix: str
    docker_host: str
    engine_timeout: float
    log_limit: int
    live_output_share: float
    log_format: LogFormat

    @classmethod
    def of(cls, settings: Settings) -> AgentSettings:
        """Return the part of a worker's settings that its agent needs.

        Args:
            settings: the worker's.
        """
        return cls(*(getattr(settings, name) for name in cls._fields))

    def __repr__(self) -> str:  # the URL may hold a password
        return f"AgentSettings(prefix={self.prefix!r}, docker_host={self.docker_host!r})"


def read_apart() -> AgentSettings:
    """Read the environment in a process of its own: pydantic would stay in this one, with 10 MB.

    Raises:
        SpecError: a setting is not valid.
        ImportError: a package is missing.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _answer(writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    if not text:
        raise SpecError("the settings cannot be read; the log has the error")
    found: dict[str, Any] = json.loads(text)
    if "missing" in found:
        raise ImportError(found["missing"], name=found["name"])
    if "wrong" in found:
        raise SpecError(found["wrong"], field=found["field"])
    return AgentSettings(**found)


def _answer(writing: int) -> NoReturn:
    """Write the settings, or why there are none, and end this process."""
    try:
        with os.fdopen(writing, "wb") as answer:
            answer.write(json.dumps(_found()).encode())
    finally:
        os._exit(0)


def _found() -> dict[str, Any]:
    try:
        from jaas_worker.settings import Settings

        return AgentSettings.of(Settings())._asdict()
    except ImportError as error:
        return {"missing": str(error), "name": error.name}
    except SpecError as error:
        return {"wrong": str(error), "field": error.field}
