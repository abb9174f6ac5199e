"""Measures what one container uses, until it has exited."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable
from jaas_worker.agent.usage.counters import Counters
from jaas_worker.agent.usage.kernel import KernelCounters, open_counters
from jaas_worker.agent.usage.tally import UsageTally, pause
from jaas_worker.decisions.times import parse_time
from jaas_worker.telemetry.log_actions import Action, action

__all__ = ["Facts", "Measured", "Pace", "UsageMeter"]

logger = logging.getLogger(__name__)

_REST: Final = 10
"""An engine is left alone for so many times as long as an answer took: it counts for all its containers at once."""


class Facts(Protocol):
    """What is known of a container that has started."""

    @property
    def running(self) -> bool: ...
    @property
    def pid(self) -> int: ...
    @property
    def host_network(self) -> bool: ...


class Measured(Protocol):
    """The part of a node's engine that a meter asks; ``NodeEngine`` says what each method does."""

    @property
    def is_here(self) -> bool: ...
    async def inspect(self, container_id: str) -> Facts: ...
    async def usage(self, container_id: str) -> tuple[float, Counters]: ...


class Pace:
    """Keeps the meters of all containers from asking their engine too often."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._free_at = 0.0

    async def ask(self, call: Callable[[], Awaitable[tuple[float, Counters]]]) -> tuple[float, Counters]:
        """Return a call's answer, when it is its turn.

        Args:
            call: asks the engine.
        """
        async with self._lock:
            await asyncio.sleep(self._free_at - time.monotonic())
            began = time.monotonic()
            try:
                return await call()
            finally:
                self._free_at = time.monotonic() + _REST * (time.monotonic() - began)


class UsageMeter:
    """Measures one container.

    Args:
        engine: the container's.
        container_id: which one.
        pace: shared by all meters of an engine.
    """

    def __init__(self, engine: Measured, container_id: str, pace: Pace) -> None:
        self._engine = engine
        self._container_id = container_id
        self._pace = pace
        self._tally = UsageTally()

    def used(self, finished_at: str) -> dict[str, Any] | None:
        """Return what it used until the last sample, as ``Used`` takes it; None without a sample.

        Args:
            finished_at: when it ended, RFC 3339; empty where that is not known.
        """
        ended = parse_time(finished_at)
        return self._tally.used(ended.timestamp() if ended is not None else None)

    async def run(self, exited: asyncio.Event) -> None:
        """Take samples until the container has exited.

        Args:
            exited: set when it has.
        """
        try:
            facts = await self._engine.inspect(self._container_id)
            if not facts.running or exited.is_set():
                return
            counters = None
            if self._engine.is_here and facts.pid > 0:
                counters = open_counters(self._container_id, facts.pid, own_network=not facts.host_network)
            if counters is not None:
                await self._read(counters, exited)
            else:
                await self._ask(exited)
        except (EngineUnavailable, EngineRefused, EngineNotFound):
            pass  # the last sample stands
        except Exception:  # what it used is not known; the container is followed on
            what = "container %s: what it uses cannot be measured"
            logger.exception(what, self._container_id[:12], extra=action(Action.STEP_FAILED))

    async def _read(self, counters: KernelCounters, exited: asyncio.Event) -> None:
        """Read the kernel's counters, the last time when the main process has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def sample() -> None:
            self._tally.add(time.time(), counters.read())

        def last() -> None:  # at once: the cgroups are removed soon
            loop.remove_reader(counters.process)
            sample()
            ended.set()

        try:
            loop.add_reader(counters.process, last)
            while not (ended.is_set() or exited.is_set()):
                sample()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), pause(self._tally.age))
        finally:
            loop.remove_reader(counters.process)
            counters.close()

    async def _ask(self, exited: asyncio.Event) -> None:
        """Ask the engine, which knows nothing any more of a container that has ended."""
        while not exited.is_set():
            at, counters = await self._pace.ask(lambda: self._engine.usage(self._container_id))
            if not exited.is_set() or counters.cpu_seconds:
                self._tally.add(at, counters)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(exited.wait(), pause(self._tally.age))
