"""An installation of jaas for one measurement."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from benchmarks.harness import Options
from jaas_submit import Client
from tests.support.worker import Installation, WorkerProcess

__all__ = ["client_of", "home"]


@contextlib.contextmanager
def home(options: Options, engine: str = "", **settings: object) -> Iterator[tuple[Installation, WorkerProcess]]:
    """Yield an installation and its worker, which takes jobs; afterwards nothing of it is left but its log.

    Args:
        options: where Redis, engine and the folder for logs are.
        engine: another engine than the options'.
        settings: of the worker; all others have their defaults.
    """
    prefix = f"b-{uuid.uuid4().hex[:8]}"
    made = Installation(options.redis_url, engine or options.engine, prefix, options.out, **settings)
    try:
        yield made, made.worker(prefix).start()
    finally:
        made.close()


@contextlib.contextmanager
def client_of(made: Installation) -> Iterator[Client]:
    """Yield a client of an installation."""
    with Client(made.redis_url, queue=made.queue, prefix=made.prefix) as client:
        yield client
