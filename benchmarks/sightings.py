"""What the engines themselves say of services and containers, and when: the clock that all contestants are held to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any

import docker

__all__ = ["Sightings"]

_SERVICE = "com.docker.swarm.service"


class Sightings:
    """Follows the events of some engines of this machine, whose clock is this process' clock.

    Args:
        engines: DOCKER_HOSTs; the first one is a manager.
    """

    def __init__(self, engines: Iterable[str]) -> None:
        self.created: dict[str, float] = {}
        """Service, by its name and by its id -> when the swarm stored it, in seconds since the epoch."""
        self.removed: dict[str, float] = {}
        """Service -> when it was removed."""
        self.started: dict[str, float] = {}
        """Service -> when its container started."""
        self.ended: dict[str, float] = {}
        """Service -> when its container ended."""
        self._ready = threading.Semaphore(0)
        self._streams: list[Any] = []
        self._apis = [docker.APIClient(base_url=engine, version="auto", timeout=60) for engine in engines]
        for number, api in enumerate(self._apis):
            stream = api.events(decode=True, since=int(time.time()))
            self._streams.append(stream)
            threading.Thread(target=self._follow, args=(stream, number == 0), daemon=True).start()

    def _follow(self, stream: Iterable[dict[str, Any]], manager: bool) -> None:
        # The stream ends when it is closed, in whatever way its connection puts that.
        with contextlib.suppress(Exception):
            for event in stream:
                self._see(event, manager)

    def _see(self, event: dict[str, Any], manager: bool) -> None:
        kind, what = event.get("Type"), event.get("Action")
        attributes = event.get("Actor", {}).get("Attributes", {})
        at = event["timeNano"] / 1e9
        if kind == "service" and manager:
            where = {"create": self.created, "remove": self.removed}.get(str(what))
            names = [attributes.get("name", ""), event["Actor"].get("ID", "")]
        elif kind == "container":
            where = {"start": self.started, "die": self.ended}.get(str(what))
            names = [attributes.get(f"{_SERVICE}.name", ""), attributes.get(f"{_SERVICE}.id", "")]
        else:
            return
        if where is not None:
            for name in filter(None, names):
                where.setdefault(name, at)

    def close(self) -> None:
        """Follow no more."""
        for stream in self._streams:
            with contextlib.suppress(Exception):  # docker-py cannot close every stream
                stream.close()
        for api in self._apis:
            api.close()

    def __enter__(self) -> Sightings:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
