"""Requests for the tests of the policy: as the worker makes them, with one thing changed."""

from __future__ import annotations

import copy
from typing import Any

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.policy.decision import decide
from jaas_submit.policy.document import Level, Policy, parse_policy
from jaas_submit.policy.facts import Context, Decision, Facts, NetworkFacts, Reference
from jaas_worker.swarm.service_spec import service_request

__all__ = ["DIGEST", "FACTS", "asked", "decided", "rules_of"]

DIGEST = "docker.io/library/alpine@sha256:" + "a" * 64

FACTS = Facts(
    secrets={"id-open": Reference("open", {"jaas.jobs": "allow"}), "id-shut": Reference("shut", {"jaas.jobs": "no"})},
    configs={"id-open": Reference("open", {"jaas.jobs": "allow"}), "id-shut": Reference("shut", {})},
    networks={
        "shared": NetworkFacts("n1", "shared", "overlay", "swarm", True, {}),
        "closed": NetworkFacts("n2", "closed", "overlay", "swarm", False, {}),
        "control": NetworkFacts("n3", "control", "overlay", "swarm", True, {"jaas.control": "true"}),
        "host": NetworkFacts("n4", "host", "host", "local", False, {}),
        "lan": NetworkFacts("n5", "lan", "macvlan", "swarm", True, {}),
    },
)


def asked(container: dict[str, Any] | None = None, task: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a request that every level allows, apart from what is given: parts of the request, or of the description.

    Args:
        container: parts of ``ContainerSpec``.
        task: parts of ``TaskTemplate``.
        spec: fields of the description.
    """
    usual = {"image": DIGEST, "user": "1000", "limits": {"memory": "64M"}}
    made = copy.deepcopy(service_request(JobSpec(**{**usual, **spec}), "j", 1, {}, {"open": "id-open"}))
    made["TaskTemplate"]["ContainerSpec"].update(container or {})
    made["TaskTemplate"].update(task or {})
    return made


def decided(request: Any, level: Level = "baseline", context: Context | None = None, facts: Facts = FACTS) -> Decision:
    """Return what a level says of a request."""
    return decide(request, facts, Policy(level=level), context or Context())


def rules_of(text: str, request: Any, context: Context | None = None, facts: Facts = FACTS) -> set[str]:
    """Return the rules by which a policy, given as TOML, refuses a request."""
    decision = decide(request, facts, parse_policy(text, "p.toml"), context or Context())
    return {one.rule for one in decision.refusals}
