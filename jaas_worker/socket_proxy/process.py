"""`jaas socket-proxy` as a process: its settings, its socket, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from aiohttp import web

from jaas_submit.errors import SpecError
from jaas_submit.policy.facts import Context
from jaas_worker.admission.loading import load_policy
from jaas_worker.settings import Settings
from jaas_worker.socket_proxy.engine import Upstream
from jaas_worker.socket_proxy.proxy import SocketProxy
from jaas_worker.socket_proxy.routes import MAX_TARGET
from jaas_worker.socket_proxy.store_binds import StoreBinds
from jaas_worker.swarm.log_driver import LogDriver
from jaas_worker.telemetry.log_actions import Action, action
from jaas_worker.telemetry.logging_setup import set_up

__all__ = ["running", "socket_proxy_main"]

logger = logging.getLogger(__name__)

_MAX_HEADER: Final = 64 * 1024
"""Bytes: some registries' logins are long."""


@contextlib.asynccontextmanager
async def running(
    settings: Settings, engine: str, listen: str, mode: int, *, store_binds: bool = False
) -> AsyncIterator[None]:
    """Serve until the end of the block.

    Args:
        settings: policy, queue, log driver and store, as the workers have them.
        engine: ``unix://`` and the path of the engine's socket.
        listen: ``unix://`` and a path, or ``tcp://HOST:PORT``.
        mode: of the socket at a path.
        store_binds: True lets through binds of files in the local store: see ``StoreBinds``.

    Raises:
        SpecError: an address or the policy is not valid.
        OSError: nothing can listen there.
    """
    source = _path(engine)
    if not source:
        raise SpecError("--engine: write unix:// and the path of the engine's socket", field="engine")
    store = urlsplit(settings.store_url or "")
    driver = LogDriver(settings.log_driver, settings.driver_options)
    of_worker = Context(queue=settings.queue, log_driver=driver.name, log_options=driver.options)
    upstream = Upstream(source)
    folder = store.path if store.scheme == "file" else ""
    if store_binds and not folder:
        raise SpecError("--store-binds: JAAS_STORE_URL names no folder; set it as for the workers", field="store_binds")
    proxy = SocketProxy(upstream, load_policy(settings), of_worker, StoreBinds(folder, store_binds))
    runner = web.AppRunner(
        proxy.application(),
        access_log=None,
        handler_cancellation=True,  # who goes away in the middle of a stream ends it
        max_line_size=MAX_TARGET + 100,
        max_field_size=_MAX_HEADER,
        keepalive_timeout=75,
        shutdown_timeout=1,
    )
    try:
        await runner.setup()
        await _site(runner, listen, mode)
        yield
    finally:
        await runner.cleanup()
        await upstream.close()


async def _site(runner: web.AppRunner, listen: str, mode: int) -> None:
    where = urlsplit(listen)
    if path := _path(listen):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                raise SpecError(f"--listen: {path} is there, and no socket; name another path", field="listen")
            os.unlink(path)  # of one that was killed
        before = os.umask(0o777 & ~mode)
        try:
            await web.UnixSite(runner, path).start()
        finally:
            os.umask(before)
    elif where.scheme == "tcp" and where.hostname and where.port:
        await web.TCPSite(runner, where.hostname, where.port).start()
    else:
        raise SpecError("--listen: write unix:// and a path, or tcp://HOST:PORT", field="listen")


def _path(address: str) -> str:
    scheme, _, path = address.partition("://")
    return path if scheme == "unix" and Path(path).is_absolute() else ""


def socket_proxy_main(engine: str, listen: str, mode: int, log_level: str, *, store_binds: bool = False) -> NoReturn:
    """Serve until SIGTERM or SIGINT, and end this process.

    Args:
        engine: as for ``running``.
        listen: as for ``running``.
        mode: as for ``running``.
        log_level: such as INFO.
        store_binds: as for ``running``.

    Raises:
        SpecError: a setting is not valid.
    """
    settings = Settings()
    set_up(settings.log_format, log_level)

    async def main() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, ended.set)
        async with running(settings, engine, listen, mode, store_binds=store_binds):
            logger.info("the socket proxy listens at %s", listen, extra=action(Action.PROXY_LISTENING))
            await ended.wait()

    try:
        asyncio.run(main())
    except OSError as error:
        raise SpecError(f"--listen: {listen}: {error.strerror or error}", field="listen") from None
    raise SystemExit(0)
