"""A socket proxy in this process, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaas_worker.settings import Settings
from jaas_worker.socket_proxy.process import running

__all__ = ["behind_proxy"]


@contextmanager
def behind_proxy(engine: str, folder: Path, *, store_binds: bool = False, **settings: Any) -> Iterator[str]:
    """Yield the address of a proxy before an engine.

    Args:
        engine: its address.
        folder: for the socket.
        store_binds: whether it lets files of the local store through.
        settings: of the proxy, such as ``policy``.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    address = f"unix://{folder / 'proxy.sock'}"
    made = running(Settings(**settings), engine, address, 0o600, store_binds=store_binds)
    asyncio.run_coroutine_threadsafe(made.__aenter__(), loop).result(20)
    try:
        yield address
    finally:
        asyncio.run_coroutine_threadsafe(made.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
