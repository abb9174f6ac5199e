"""Runs a node's agent: as `jaas agent`, or on a thread of the worker of that node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from jaas_submit.connection import Subscription, connect
from jaas_submit.errors import EngineRefused, EngineUnavailable, SpecError
from jaas_submit.output import Ends, WholeOutput
from jaas_worker.agent.agent import NodeAgent
from jaas_worker.agent.node_engine import DockerNode
from jaas_worker.agent.redis_calls import RedisCalls
from jaas_worker.agent.swarm_feeds import RunningService, SwarmFeeds
from jaas_worker.agent.timing import TIMING
from jaas_worker.swarm.engine import ContainerRef
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.tracking.subscriber import listen

if TYPE_CHECKING:
    import redis

    from jaas_worker.settings import LogFormat, Settings

__all__ = ["AgentSettings", "AgentThread", "agent_main", "read_apart"]

logger = logging.getLogger(__name__)

_REDIS_TIMEOUT_S = 5.0

_STOPS = (signal.SIGTERM, signal.SIGINT)

_AGAIN_S = 5.0
"""Seconds after which an agent that has failed starts again."""


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


class AgentThread:
    """An agent on a thread of its own.

    Args:
        settings: its own.
        client: a connection as ``connect`` makes it.
        holder: this process.
        version: of jaas.
        again: seconds after which it starts again if it has failed.
    """

    def __init__(
        self,
        settings: AgentSettings,
        client: redis.Redis,
        holder: str,
        version: str = "",
        again: float = _AGAIN_S,
    ) -> None:
        self.holds: Callable[[str], bool] = lambda _job_id: False
        """Whether the worker in this process holds a job."""
        self.running: Callable[[str], RunningService | None] = lambda _job_id: None
        """Returns the service of a job that it holds and whose container runs."""
        self.calls = RedisCalls(client, settings.prefix, share=settings.live_output_share)
        self._settings = settings
        self._holder = holder
        self._again = again
        self._make = partial(
            NodeAgent,
            calls=self.calls,
            cap=settings.log_limit,
            holder=holder,
            version=version,
            holds=self._holds,
        )
        self._closed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._agent: NodeAgent | None = None
        self._feeds: SwarmFeeds | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="jaas-agent", daemon=True)
        self._watches = threading.Thread(target=self._listen, name="jaas-watches", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()
        self._watches.start()

    def close(self, timeout: float = 3.0) -> None:
        """Stop following: another process may do it at once.

        Args:
            timeout: seconds to wait for the end.
        """
        self._closed.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(task.cancel)
        if self._thread.is_alive():
            self._thread.join(timeout)
        self.calls.close()

    def output_of(self, container: ContainerRef, node_id: str, timeout: float) -> WholeOutput | None:
        """Return the output of a container that has exited; None if this agent does not follow its node.

        Args:
            container: which one.
            node_id: the swarm's id of its node.
            timeout: seconds to wait until it is read.

        Raises:
            EngineUnavailable: it is still being read.
        """
        loop, agent = self._loop, self._agent
        if loop is None or agent is None or not loop.is_running():
            return None
        asked = asyncio.run_coroutine_threadsafe(agent.output_of(container, node_id), loop)
        try:
            return asked.result(timeout)
        except TimeoutError:
            asked.cancel()
            raise EngineUnavailable("reading output: the agent has not read all of it yet") from None
        except (CancelledError, RuntimeError):
            return None

    def _holds(self, job_id: str) -> bool:
        return self.holds(job_id)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                asyncio.run(self.main())
            except asyncio.CancelledError:
                pass
            except EngineRefused as error:
                logger.warning("no agent: %s", error, extra=action(Action.ENGINE_UNAVAILABLE))
                return
            except Exception:  # the worker goes on without it
                logger.exception("the agent has failed; it starts again", extra=action(Action.STEP_FAILED))
            self._closed.wait(self._again)

    async def main(self) -> None:
        """Follow the node's containers until ``close``."""
        engine = DockerNode(self._settings.docker_host, self._settings.engine_timeout)
        self._agent = self._make(engine)
        self._feeds = SwarmFeeds(engine, self.calls, self._holder, self.holds, self.running, TIMING)
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if not self._closed.is_set():
            await asyncio.gather(self._agent.run(), self._feeds.run())

    def _listen(self) -> None:
        listen("watched output", self._subscribe, self._heard, self._closed)

    def _subscribe(self) -> Subscription:
        calls = self.calls
        return Subscription(calls.ends.client, calls.feeds.watch_channel, calls.transfers.request_channel)

    def _heard(self, notice: str) -> None:
        loop, agent, feeds = self._loop, self._agent, self._feeds
        if loop is not None and agent is not None and feeds is not None and not loop.is_closed():
            loop.call_soon_threadsafe(agent.watched, notice)
            loop.call_soon_threadsafe(feeds.watched, notice)


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


def _set_up_log(settings: AgentSettings, level: str) -> None:
    # structlog takes rich for tracebacks on a terminal if it finds it: 5 MB that an agent does not need.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from jaas_worker.telemetry import logging_setup

    logging_setup.set_up(settings.log_format, level)


def agent_main(level: str) -> None:
    """Run an agent in this process, with the settings of a worker, until it is told to stop.

    Args:
        level: of the log, such as ``INFO``.

    Raises:
        SpecError: a setting is not valid.
        EngineRefused: the engine cannot be reached in that way.
        TemporaryError: Redis does not answer.
    """
    settings = read_apart()
    _set_up_log(settings, level)
    client = connect(settings.redis_url, socket_timeout=_REDIS_TIMEOUT_S)
    Ends(client, settings.prefix).identity()  # Redis answers
    DockerNode(settings.docker_host)  # refuses an address that it cannot use
    agent = AgentThread(settings, client, f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    # Blocked in all threads: one that got a signal would run no handler, for the main thread would sleep on.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    agent.start()
    signal.sigwait(_STOPS)
    agent.close()
