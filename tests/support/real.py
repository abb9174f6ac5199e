"""Where the tests find a real Redis and a real swarm, and what happens where there is none."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["required_env", "unavailable"]


def unavailable(what: str) -> NoReturn:
    """Skip the test for want of something real; where JAAS_REQUIRE_REAL=1 (CI), fail it instead.

    Args:
        what: what is missing, such as "JAAS_REDIS_URL is not set".
    """
    reason = f"{what}; `scripts/test` sets everything up and runs the tests"
    if os.environ.get("JAAS_REQUIRE_REAL") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def required_env(name: str) -> str:
    """Return an environment variable that says where something real is."""
    return os.environ.get(name) or unavailable(f"{name} is not set")
