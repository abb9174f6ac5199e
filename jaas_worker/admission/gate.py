"""The gate: each request for a service passes it right before it is sent, and each service that is taken over."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaas_submit.model.cluster import Node
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.placement.placement import fit
from jaas_submit.policy.ages import api_of_engine, newest_setting
from jaas_submit.policy.decision import decide, decide_image, output_limit
from jaas_submit.policy.document import Policy
from jaas_submit.policy.facts import LABEL_TENANT, Context, Decision, EngineAge, Facts, PolicyRefused
from jaas_submit.signing import Producer
from jaas_worker.admission.own_parts import IsOwn, without_own_parts
from jaas_worker.settings import Settings
from jaas_worker.swarm.engine import Engine
from jaas_worker.swarm.log_driver import LogDriver

__all__ = ["Admitted", "PolicyGate"]

logger = logging.getLogger(__name__)


class Admitted(NamedTuple):
    """A request that may be sent."""

    request: dict[str, Any]
    """With what the policy adds."""
    warning: str = ""
    """What the policy would refuse, if it were enforced."""


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
        self._log_driver = LogDriver(settings.log_driver, settings.driver_options)

    def context(self, spec: JobSpec, producer: Producer | None = None) -> Context:
        """Return what counts of a job beside its request.

        Args:
            spec: its description.
            producer: who signed it, where that was verified; without one the job's own label names the tenant.
        """
        return Context(
            queue=self._queue,
            tenant=spec.labels.get(LABEL_TENANT) if producer is None else producer.tenant or None,
            producer=None if producer is None else producer.name,
            run_timeout=spec.run_timeout,
            attempts=spec.retry.max_attempts,
            log_driver=self._log_driver.name,
            log_options=self._log_driver.options,
        )

    def check_image(self, spec: JobSpec, producer: Producer | None = None) -> None:
        """Refuse an image before its registry hears of it.

        Args:
            spec: the job's description.
            producer: who signed it, where that was verified.

        Raises:
            PolicyRefused: it may not run.
        """
        decision = decide_image(spec.image, self.policy, self.context(spec, producer))
        if decision.refused:
            raise PolicyRefused(decision.reason)

    def admit(self, request: Mapping[str, Any], spec: JobSpec, producer: Producer | None = None) -> Admitted:
        """Return the request as it may be sent.

        Args:
            request: body of ``POST /services/create``, without the job's input and files, which jaas adds afterwards.
            spec: the job's description.
            producer: who signed it, where that was verified.

        Raises:
            PolicyRefused: the policy does not allow it; the text names field, rule and what would allow it.
            EngineUnavailable: the engine does not say what the request refers to.
        """
        decision = decide(request, self._facts(request, spec), self.policy, self.context(spec, producer))
        if decision.refused:
            raise PolicyRefused(decision.reason)
        return Admitted(decision.request, decision.reason)

    def review(
        self,
        service_id: str,
        spec: JobSpec,
        is_own_mount: IsOwn,
        is_own_config: IsOwn,
        producer: Producer | None = None,
    ) -> Decision:
        """Return whether a service that exists may go on: one that another worker has created.

        What the policy would add by itself is not missed in it. Where the job names neither log driver nor options,
        those of the service are a worker's own choice, maybe under other settings, and are not judged.

        Args:
            service_id: the service.
            spec: the job's description.
            is_own_mount: says whether jaas itself mounts a path of the host there, for this job's input or files.
            is_own_config: says whether jaas itself puts a config of this name there, for this job's files.
            producer: who signed it, where that was verified.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        request = self._engine.request_of(service_id)
        if request is None:  # it is gone, which the tracker will see
            return Decision({})
        asked = without_own_parts(request, is_own_mount, is_own_config)
        decision = decide(asked, self._facts(asked, spec), self.policy, self.context(spec, producer))
        if spec.log_driver is not None or spec.log_options:
            return decision
        return decision._replace(refusals=tuple(one for one in decision.refusals if one.rule != "log_drivers"))

    def output_limit(self, spec: JobSpec, most: int, producer: Producer | None = None) -> int:
        """Return how many bytes a job may return.

        Args:
            spec: its description.
            most: what the settings allow.
            producer: who signed it, where that was verified.
        """
        return output_limit(self.policy, self.context(spec, producer), most)

    def _facts(self, request: Mapping[str, Any], spec: JobSpec) -> Facts:
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
            self._engines(spec) if newest_setting(request) else (),
        )

    def _engines(self, spec: JobSpec) -> tuple[EngineAge, ...]:
        """Return the manager, and the nodes that may get the job, be they full or down at present."""
        manager = self._engine.info().api_version.split(".")
        known = (int(manager[0]), int(manager[1])) if len(manager) == 2 and all(map(str.isdecimal, manager)) else None
        nodes = [node for node in self._engine.node_facts() if _may_get(spec, node)]
        return (
            EngineAge("the manager", known),
            *(EngineAge(f"node {node.hostname}", api_of_engine(node.engine_version)) for node in nodes),
        )


def _may_get(spec: JobSpec, node: Node) -> bool:
    found = fit(spec, node.model_copy(update={"state": "ready", "availability": "active"}))
    return not {"constraint", "platform"} & set(found.lacks)
