"""The checks of `jaas doctor` that need the engine."""

from __future__ import annotations

from typing import Final

from jaas_submit.checks import Check, Verdict
from jaas_submit.errors import EngineRefused, EngineUnavailable, SpecError
from jaas_worker.engine import Engine, SwarmInfo
from jaas_worker.settings import Settings
from jaas_worker.swarm import Swarm

__all__ = ["engine_checks"]

_PATIENCE: Final = 5.0
_LEAST_API: Final = (1, 41)
"""Docker 20.10's: the oldest engine that the tests run on."""


def engine_checks(engine: Engine | None = None) -> list[Check]:
    """Return what is to be said about the engine that a worker on this machine would use.

    Args:
        engine: the engine to ask; None takes the one that the settings name.
    """
    try:
        settings = Settings()
    except SpecError as error:
        return [Check("settings", Verdict.FAIL, str(error), "correct this environment variable")]
    try:
        info = (engine or Swarm(settings.docker_host, _PATIENCE)).info()
    except (EngineUnavailable, EngineRefused) as error:
        fix = "start Docker, point DOCKER_HOST at a swarm manager, or use --no-engine where no worker shall run"
        return [Check("engine", Verdict.FAIL, f"{settings.docker_host}: {error}", fix)]
    return [_version(info), *_swarm(info)]


def _version(info: SwarmInfo) -> Check:
    detail = f"Docker {info.engine_version}, API {info.api_version}"
    if tuple(int(part) for part in info.api_version.split(".") if part.isdigit()) < _LEAST_API:
        return Check("engine", Verdict.FAIL, detail, "upgrade to Docker 20.10 (API 1.41) or newer")
    return Check("engine", Verdict.OK, detail)


def _swarm(info: SwarmInfo) -> list[Check]:
    if info.state != "active":
        detail = f"{info.node_name} is in no swarm: {info.state}{f' ({info.error})' if info.error else ''}"
        fix = "run `docker swarm init` there, or point DOCKER_HOST at a swarm manager"
        return [Check("swarm", Verdict.FAIL, detail, fix)]
    swarm = Check("swarm", Verdict.OK, f"node {info.node_name} is active")
    if info.manager:
        return [swarm, Check("manager", Verdict.OK, "yes")]
    fix = f"run jaas workers on manager nodes, or `docker node promote {info.node_name}`"
    return [swarm, Check("manager", Verdict.FAIL, f"{info.node_name} is a swarm worker", fix)]
