"""The checks of `jaas doctor` that need the engine."""

from __future__ import annotations

import contextlib
from typing import Final

from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.errors import EngineRefused, EngineUnavailable, LedgerUnavailable, SpecError
from jaas_submit.ledger import Ledger
from jaas_submit.model.bounds import counted, whole
from jaas_submit.model.wire_names import LABEL_JOB, LABEL_LEDGER, LABEL_PREFIX
from jaas_worker.decisions.times import parse_time
from jaas_worker.settings import Settings
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.engine import Engine, ServiceView, SwarmInfo

__all__ = ["engine_checks"]

_ENGINE_TIMEOUT_S: Final = 5.0
_STRAY_AFTER_S: Final = 60.0
"""Seconds after which the reconciler should have handled a service."""

_LEAST_API: Final = (1, 41)
"""Docker 20.10's: the oldest engine that the tests run on."""


def engine_checks(engine: Engine | None = None, ledger: Ledger | None = None) -> list[Check]:
    """Return the checks of the engine that a worker on this machine would use.

    Args:
        engine: the engine to ask; None takes the one that the settings name.
        ledger: the ledger that its services should belong to; None does not check the services.
    """
    try:
        settings = Settings()
    except SpecError as error:
        return [Check("settings", Verdict.FAIL, str(error), "correct this environment variable")]
    engine = Swarm(settings.docker_host, _ENGINE_TIMEOUT_S) if engine is None else engine
    try:
        info = engine.info()
    except (EngineUnavailable, EngineRefused) as error:
        fix = "start Docker, point DOCKER_HOST at a swarm manager, or use --no-engine if no worker runs here"
        return [Check("engine", Verdict.FAIL, f"{settings.docker_host}: {error}", fix)]
    checks = [_version(info), *_swarm(info)]
    if info.manager and info.state == "active":
        checks.append(_leader(engine))
    if ledger is not None and info.manager:
        # Another line already reports what cannot be asked now.
        with contextlib.suppress(EngineUnavailable, EngineRefused, LedgerUnavailable):
            checks.append(_strays(engine, ledger))
    return checks


def _strays(engine: Engine, ledger: Ledger) -> Check:
    """Look for services without an owner: of a ledger that is gone, or of an unknown job."""
    services = engine.services(f"{LABEL_PREFIX}={ledger.prefix}")
    own = ledger.maintenance.identity()
    foreign = [service.name for service in services if service.labels.get(LABEL_LEDGER) != own]
    jobs = {s.labels.get(LABEL_JOB, ""): s for s in services if s.labels.get(LABEL_LEDGER) == own}
    known = {record.id for record in ledger.queries.find(list(jobs))} if jobs else set()
    known |= {name.removeprefix("job ") for name in ledger.unreadable}
    unknown = [service.name for job, service in jobs.items() if job not in known and _old(service, ledger.now())]
    if not foreign and not unknown:
        return Check(
            "services",
            Verdict.OK,
            f"{counted(len(services), 'service')} of this installation, each of a job that has a record",
        )
    parts = []
    if foreign:
        parts.append(f"{len(foreign)} of another ledger with the same prefix ({_some(foreign)})")
    if unknown:
        parts.append(f"{len(unknown)} of jobs that Redis does not know ({_some(unknown)})")
    fix = "see what they run (`docker service ps NAME`), then `docker service rm NAME`; workers leave them alone"
    return Check("services", Verdict.WARN, "; ".join(parts), fix)


def _old(service: ServiceView, now: float) -> bool:
    created = parse_time(service.created_at)
    return created is not None and now - created.timestamp() > _STRAY_AFTER_S


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _version(info: SwarmInfo) -> Check:
    detail = f"Docker {info.engine_version}, API {info.api_version}"
    if _numbers(info.api_version) < _LEAST_API:
        return Check("engine", Verdict.FAIL, detail, "upgrade to Docker 20.10 (API 1.41) or newer")
    return Check("engine", Verdict.OK, detail)


def _numbers(version: str) -> tuple[int, ...]:
    """Return an API's version as numbers; empty if it is no version."""
    try:
        return tuple(whole(part) for part in version.split("."))
    except ValueError:
        return ()


def _leader(engine: Engine) -> Check:
    """Ask what a manager knows from the swarm's leader only."""
    try:
        down = engine.down_nodes()
    except (EngineUnavailable, EngineRefused) as error:
        fix = "bring managers back until more than half of them are up; until then workers take no new jobs"
        if "client version" in str(error):
            fix = "let Docker, and a proxy in front of it, take one and the same version of the API"
        return Check("leader", Verdict.FAIL, str(error), fix)
    return Check(
        "leader", Verdict.OK, f"there is one; {counted(len(down), 'node')} {'is' if len(down) == 1 else 'are'} down"
    )


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
