"""How long containers ran, as their engine says it: from StartedAt to FinishedAt, whoever else looks at them."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import docker

from jaas_worker.decisions.times import parse_time
from tests.support.wait import eventually

__all__ = ["OwnTimes"]

_SERVICE = "com.docker.swarm.service.name"


class OwnTimes:
    """Inspects each container at its end, before its service is removed.

    Args:
        engine: DOCKER_HOST of the containers' engine.
    """

    def __init__(self, engine: str) -> None:
        self._took: dict[str, float] = {}
        self._api = docker.APIClient(base_url=engine, version="auto", timeout=60)
        self._events: Any = self._api.events(
            decode=True, since=int(time.time()), filters={"type": "container", "event": "die"}
        )
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        # The stream ends when it is closed, in whatever way its connection puts that.
        with contextlib.suppress(Exception):
            for event in self._events:
                actor = event["Actor"]
                with contextlib.suppress(docker.errors.APIError):  # who asks for it is told that it is not there
                    state = self._api.inspect_container(actor["ID"])["State"]
                    began, ended = parse_time(state["StartedAt"]), parse_time(state["FinishedAt"])
                    if began and ended:
                        self._took[actor["Attributes"].get(_SERVICE, "")] = (ended - began).total_seconds()

    def of(self, service: str) -> float:
        """Return the seconds for which a service's container ran.

        Args:
            service: its name; its container has ended, or is about to.
        """
        eventually(lambda: service in self._took, 20, f"the engine to tell how long {service} ran")
        return self._took[service]

    def close(self) -> None:
        """Follow no more."""
        with contextlib.suppress(Exception):  # docker-py cannot close every stream
            self._events.close()
        self._api.close()

    def __enter__(self) -> OwnTimes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
