"""An engine whose requests are timed and whose errors are counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final, cast

from jaas_submit.errors import EngineRefused, EngineUnavailable
from jaas_worker.swarm.engine import Engine
from jaas_worker.telemetry.metrics import Metrics

__all__ = ["measured"]


class _Measured:
    """An engine whose every method is timed."""

    _STREAMS: Final = frozenset({"events"})
    """They exist as long as the worker."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        if name.startswith("_") or name in self._STREAMS or not callable(method):
            return method
        seconds = self._metrics.engine_seconds.labels(name)
        errors = self._metrics.engine_errors
        for kind in ("refused", "unavailable"):
            errors.labels(name, kind)

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                answer = method(*args, **kwargs)
                return self._watched(name, answer) if isinstance(answer, Iterator) else answer
            except EngineRefused:
                errors.labels(name, "refused").inc()
                raise
            except EngineUnavailable:
                errors.labels(name, "unavailable").inc()
                raise
            finally:
                seconds.observe(time.perf_counter() - started)

        self.__dict__[name] = call  # looked up once
        return call

    def _watched(self, name: str, answer: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from answer
        except EngineUnavailable:
            self._metrics.engine_errors.labels(name, "unavailable").inc()
            raise


def measured(engine: Engine, metrics: Metrics) -> Engine:
    """Return the same engine with timed requests."""
    return cast("Engine", _Measured(engine, metrics))
