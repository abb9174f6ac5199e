"""The Celery app for Flower: `celery -A jaas_submit.dashboard.flower_app flower`. It needs Redis alone, and no engine.

docker/flowerconfig.py has the settings for jaas.
"""

from __future__ import annotations

import sys
from typing import Any

import celery

from jaas_submit.connection.url import default_url
from jaas_submit.errors import JaasError
from jaas_submit.messaging.app import celery_app

__all__: list[str] = []


def __getattr__(name: str) -> Any:
    """Make ``app`` on first use: importing the module must not need a setting."""
    if name in {"app", "celery"}:
        from jaas_submit.dashboard.guard import guard_flower  # an extra

        try:
            guard_flower()
            made: celery.Celery = celery_app(default_url())
        except JaasError as error:
            sys.exit(f"jaas: {error}")
        globals()["app"] = made
        return made
    raise AttributeError(name)
