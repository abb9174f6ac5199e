"""The gate: each request for a service passes it right before it is sent, and each service that is taken over."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from jaas_submit.model.cluster import Node
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.placement.placement import fit
from jaas_submit.policy.ages import api_of_engine, newest_setting
from jaas_submit.policy.decision import decide, decide_image, decide_service, limits_in_flight, output_limit, rules_for
from jaas_submit.policy.document import Policy
from jaas_submit.policy.facts import LABEL_TENANT, Context, Decision, EngineAge, Facts, PolicyRefused, Reference
from jaas_submit.signing import Producer
from jaas_worker.admission.container_defaults import NO_NEW_PRIVILEGES_SINCE, ContainerDefaults, with_defaults
from jaas_worker.admission.env_secrets import read_env_secrets
from jaas_worker.admission.own_parts import IsOwn, without_own_parts
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine
from jaas_worker.swarm.log_driver import LogDriver

__all__ = ["Admitted", "Origin", "PolicyGate"]

logger = logging.getLogger(__name__)

_ENGINES_KEPT_S: Final = 30.0
"""Seconds for which the age of the swarm's engines is remembered."""


class Admitted(NamedTuple):
    """A request that may be sent."""

    request: dict[str, Any]
    """With what the policy adds."""
    warning: str = ""
    """What the policy would refuse, if it were enforced."""


class Origin(NamedTuple):
    """Whose job it is, as far as that was verified."""

    producer: Producer | None = None
    """Who signed it."""
    queues: tuple[str, ...] = ()
    """The queue by which it came; several if nobody knows which of them it was; none: the worker's own."""


_UNKNOWN: Final = Origin()


class PolicyGate:
    """Decides by the worker's policy; whatever producer, record or label say.

    Args:
        policy: the worker's.
        engine: is asked about secrets, configs, networks and nodes that a request refers to.
        settings: of the worker.
    """

    def __init__(self, policy: Policy, engine: Engine, settings: Settings) -> None:
        self.policy = policy
        self._engine = engine
        self._queue = settings.queue
        self._env_secrets = settings.env_secrets
        self.defaults = ContainerDefaults.of(settings)
        self._engines_until = 0.0
        self._all_new = False
        self._log_driver = LogDriver(settings.log_driver, settings.driver_options)

    def queue_of(self, list_name: str) -> str:
        """Return the queue whose rules hold for a job that came by one; empty where the policy has none for queues.

        Args:
            list_name: the queue of its message. Jobs in Celery's default queue are those of the worker's own queue,
                unless the policy has rules for it.
        """
        if not self.policy.queues or not list_name:
            return ""
        return list_name if list_name in self.policy.queues else self._queue

    def queues_without_note(self, said: str) -> tuple[str, ...]:
        """Return the queues whose rules hold for a job of which nobody knows by which queue it came.

        Args:
            said: the queue in its record, which a producer may have written.
        """
        return tuple(dict.fromkeys([self._queue, said])) if self.policy.queues and said else ()

    def context(self, spec: JobSpec, whose: Origin = _UNKNOWN) -> Context:
        """Return what counts of a job beside its request.

        Args:
            spec: its description.
            whose: whose job it is; without a producer the job's own label names the tenant.
        """
        producer = whose.producer
        queue, *besides = whose.queues or (self._queue,)
        return Context(
            queue=queue,
            besides=tuple(besides),
            tenant=spec.labels.get(LABEL_TENANT) if producer is None else producer.tenant or None,
            producer=None if producer is None else producer.name,
            run_timeout=spec.run_timeout,
            attempts=spec.retry.max_attempts,
            env_secrets=spec.env_secrets,
            pids_limit=spec.pids_limit,
            log_driver=self._log_driver.name,
            log_options=self._log_driver.options,
        )

    def check_image(self, spec: JobSpec, whose: Origin = _UNKNOWN) -> None:
        """Refuse an image before its registry hears of it.

        Args:
            spec: the job's description.
            whose: whose job it is.

        Raises:
            PolicyRefused: it may not run.
        """
        decision = decide_image(spec.image, self.policy, self.context(spec, whose))
        if decision.refused:
            raise PolicyRefused(decision.reason)

    def check_service(self, name: str, labels: Mapping[str, str], spec: JobSpec, whose: Origin = _UNKNOWN) -> str:
        """Refuse a service that the job may not be like, before anything of it gets into the job's record.

        Args:
            name: of the service, as the engine has it.
            labels: of the service.
            spec: the job's description.
            whose: whose job it is.

        Returns:
            What the policy would refuse, if it were enforced; empty if it allows it.

        Raises:
            PolicyRefused: it may not be like that.
        """
        decision = decide_service(Reference(name, labels), self.policy, self.context(spec, whose))
        if decision.refused:
            raise PolicyRefused(decision.reason)
        return decision.reason

    def admit(self, request: Mapping[str, Any], spec: JobSpec, whose: Origin = _UNKNOWN) -> Admitted:
        """Return the request as it may be sent.

        Args:
            request: body of ``POST /services/create``, without the job's input and files, which jaas adds afterwards.
            spec: the job's description.
            whose: whose job it is.

        Raises:
            PolicyRefused: the policy does not allow it; the text names field, rule and what would allow it.
            EngineUnavailable: the engine does not say what the request refers to, or how new it is.
        """
        context = self.context(spec, whose)
        rules = rules_for(self.policy, context)
        facts = self._facts(request, spec, engines=any(one.no_new_privileges for one in rules))
        all_know = _know(one.api for one in facts.engines) if facts.engines else self._all_know()
        asked = with_defaults(request, self.defaults, rules, all_know_no_new_privileges=all_know)
        decision = decide(asked, facts, self.policy, context)
        if decision.refused:
            raise PolicyRefused(decision.reason)
        return Admitted(decision.request, decision.reason)

    def review(
        self,
        service_id: str,
        spec: JobSpec,
        is_own_mount: IsOwn,
        is_own_config: IsOwn,
        whose: Origin = _UNKNOWN,
    ) -> Decision:
        """Return whether a service that exists may go on: one that another worker has created.

        What the policy would add by itself is not missed in it. Where the job names neither log driver nor options,
        those of the service are a worker's own choice, maybe under other settings, and are not judged.

        Args:
            service_id: the service.
            spec: the job's description.
            is_own_mount: says whether jaas itself mounts a path of the host there, for this job's input or files.
            is_own_config: says whether jaas itself puts a config of this name there, for this job's files.
            whose: whose job it is.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        request = self._engine.request_of(service_id)
        if request is None:  # it is gone, which the tracker will see
            return Decision({})
        asked = without_own_parts(request, is_own_mount, is_own_config)
        decision = decide(asked, self._facts(asked, spec), self.policy, self.context(spec, whose))
        if spec.log_driver is not None or spec.log_options:
            return decision
        return decision._replace(refusals=tuple(one for one in decision.refusals if one.rule != "log_drivers"))

    def places(self, spec: JobSpec, whose: Origin = _UNKNOWN) -> dict[str, int]:
        """Return what the job counts for -> how many of those may be in flight at once.

        Args:
            spec: its description.
            whose: whose job it is.
        """
        return limits_in_flight(self.policy, self.context(spec, whose))

    def secret_env(self, spec: JobSpec) -> dict[str, str]:
        """Return the secret variables of a job that was admitted, with their values.

        Args:
            spec: its description.

        Raises:
            PolicyRefused: the worker has no such file.
        """
        return read_env_secrets(self._env_secrets, spec.env_secrets)

    def output_limit(self, spec: JobSpec, most: int, whose: Origin = _UNKNOWN) -> int:
        """Return how many bytes a job may return.

        Args:
            spec: its description.
            most: what the settings allow.
            whose: whose job it is.
        """
        return output_limit(self.policy, self.context(spec, whose), most)

    def _all_know(self) -> bool:
        """Return whether manager and nodes know no-new-privileges; asked every half a minute, where it is a default.

        A node with an older engine that joins in between gets some jobs without it. Where a policy requires it, the
        nodes of each job are looked at.
        """
        if self.defaults.no_new_privileges and time.monotonic() >= self._engines_until:
            self._all_new = _know([_version(self._engine.info().api_version)])
            if self._all_new:
                self._all_new = _know(api_of_engine(node.engine_version) for node in self._engine.node_facts())
            self._engines_until = time.monotonic() + _ENGINES_KEPT_S
        return self._all_new

    def _facts(self, request: Mapping[str, Any], spec: JobSpec, *, engines: bool = False) -> Facts:
        task = request["TaskTemplate"]
        container = task["ContainerSpec"]
        secrets = [str(one.get("SecretID")) for one in container.get("Secrets") or ()]
        configs = [str(one.get("ConfigID")) for one in container.get("Configs") or ()]
        networks: dict[str, Any] = {}
        for target in {str(one.get("Target")) for one in task.get("Networks") or ()}:
            if (found := self._engine.network(target)) is not None:
                networks[target] = found
        return Facts(
            self._engine.references("secrets", secrets) if secrets else {},
            self._engine.references("configs", configs) if configs else {},
            networks,
            self._engines(spec) if engines or newest_setting(request) else (),
        )

    def _engines(self, spec: JobSpec) -> tuple[EngineAge, ...]:
        """Return the manager, and the nodes that may get the job, be they full or down at present."""
        known = _version(self._engine.info().api_version)
        nodes = [node for node in self._engine.node_facts() if _may_get(spec, node)]
        return (
            EngineAge("the manager", known),
            *(EngineAge(f"node {node.hostname}", api_of_engine(node.engine_version)) for node in nodes),
        )


def _know(apis: Iterable[tuple[int, int] | None]) -> bool:
    return all(api is not None and api >= NO_NEW_PRIVILEGES_SINCE for api in apis)


def _version(text: str) -> tuple[int, int] | None:
    parts = text.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(map(str.isdecimal, parts)) else None


def _may_get(spec: JobSpec, node: Node) -> bool:
    found = fit(spec, node.model_copy(update={"state": "ready", "availability": "active"}))
    return not {"constraint", "platform"} & set(found.lacks)
