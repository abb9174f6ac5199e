"""What the policies of live workers would say of a job, before it is submitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, Final

from jaas_submit.errors import JaasError
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.policy.decision import decide, decide_service
from jaas_submit.policy.document import Policy
from jaas_submit.policy.facts import LABEL_TENANT, Context, Decision, Facts, Reference
from jaas_submit.policy.published import published_policies

__all__ = ["REQUESTS", "judged", "refusals_of"]

REQUESTS: Final = "jaas.requests"
"""Group of entry points that make a description into the request that a worker would send. The worker's package has
one."""


def judged(spec: JobSpec, policy: Policy, queue: str, tenant: str | None = None) -> Decision:
    """Return what a policy says of a job, as far as that can be said without an engine.

    Which labels services, secrets, configs and networks carry is not known here: the worker asks.

    Args:
        spec: the job's description.
        policy: a worker's.
        queue: the worker's queue.
        tenant: whose job it is; None: whose its label says.

    Raises:
        JaasError: jaas is not installed as a package, so that nothing can make a request of the description.
    """
    if spec.like_service is not None:  # what that has, only a worker sees; nor do we know its labels
        like = Reference(spec.like_service, {"jaas.jobs": "allow"})
        return decide_service(like, policy, _context(spec, queue, tenant))
    found = next(iter(metadata.entry_points(group=REQUESTS)), None)
    if found is None:
        raise JaasError("the worker's package is not installed: `pip install jaas` brings it along")
    made: dict[str, Any] = found.load()(spec)
    # Its registry may tell the digest, which only the worker asks for.
    decision = decide(made, Facts(), policy, _context(spec, queue, tenant))
    return decision._replace(refusals=tuple(one for one in decision.refusals if one.rule != "images.digest"))


def _context(spec: JobSpec, queue: str, tenant: str | None) -> Context:
    return Context(
        queue=queue,
        tenant=tenant if tenant is not None else spec.labels.get(LABEL_TENANT),
        run_timeout=spec.run_timeout,
        attempts=spec.retry.max_attempts,
        env_secrets=spec.env_secrets,
        pids_limit=spec.pids_limit,
    )


def refusals_of(spec: JobSpec, queue: str, workers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return why the workers of a queue would refuse a job; empty where one of them at least would take it.

    Args:
        spec: the job's description.
        queue: the queue that it goes to.
        workers: the workers' last reports.
    """
    reasons: list[str] = []
    for told in published_policies(workers):
        if queue not in told.queues or told.policy is None:
            continue
        try:
            decision = judged(spec, told.policy, told.queues[0])
        except JaasError:
            return []
        if not decision.refused:
            return []
        reasons += [str(one) for one in decision.refusals]
    return list(dict.fromkeys(reasons))
