"""A worker whose records expire within minutes, so that a soak sees them go: ``celery -A benchmarks.brief_records``.

The setting itself allows no less than two hours: a copy of a foreign message must find the record of its job.
"""

from __future__ import annotations

import os
from typing import Any

from jaas_worker.app import create_app
from jaas_worker.settings import Settings

__all__ = ["TTL"]

TTL = "BENCH_RECORD_TTL"
"""Environment variable: seconds that a record is kept after the job's end."""


def __getattr__(name: str) -> Any:
    """Make the app when Celery asks for it."""
    if name in {"app", "celery"}:
        app = create_app(Settings().model_copy(update={"record_ttl": float(os.environ[TTL])}))
        globals()["app"] = globals()["celery"] = app
        return app
    raise AttributeError(name)
