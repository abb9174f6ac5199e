"""PURE: the one decision: whether a finished request may be carried out, and with what added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jaas_submit.policy.ages import too_new_settings
from jaas_submit.policy.containers import check_container, check_image
from jaas_submit.policy.document import LEVELS, Policy, Section
from jaas_submit.policy.facts import Context, Decision, Facts, Reference, Refusal
from jaas_submit.policy.mounts import check_mounts
from jaas_submit.policy.references import check_env_secrets, check_networks, check_references, check_service
from jaas_submit.policy.rules import Rules
from jaas_submit.policy.shape import unknown_settings
from jaas_submit.policy.tasks import check_task, completed

__all__ = ["decide", "decide_image", "decide_service", "limits_in_flight", "output_limit", "rules_for"]

_MALFORMED: Final = "known settings"


def rules_for(policy: Policy, context: Context) -> tuple[Rules, ...]:
    """Return the rules that hold for a job; where there are several sets, each has to allow it.

    A tenant that only the job's own label names gets its rules in addition: a producer may write any label, so the
    label must gain nothing.

    Args:
        policy: the worker's.
        context: whose job it is, and in which queue.
    """
    found = [one for queue in (context.queue, *context.besides) for one in _rules_for(policy, queue, context)]
    return tuple(one for number, one in enumerate(found) if one not in found[:number])


def _rules_for(policy: Policy, queue: str, context: Context) -> tuple[Rules, ...]:
    rules = LEVELS[policy.level].changed_by(policy.rules)
    if (section := policy.queues.get(queue)) is not None:
        rules = _with(rules, section)
    section = policy.tenants.get(context.tenant) if context.tenant is not None else None
    if section is None:
        return (rules,)
    tenants = _with(rules, section)
    return (tenants,) if _is_believed(policy, context) else (rules, tenants)


def _is_believed(policy: Policy, context: Context) -> bool:
    """Return whether the job is the tenant's by more than its own label, or labels are believed."""
    return context.producer is not None or policy.trust_tenant_label


def _with(rules: Rules, section: Section) -> Rules:
    return (LEVELS[section.level] if section.level else rules).changed_by(section.rules)


def decide(request: Mapping[str, Any], facts: Facts, policy: Policy, context: Context) -> Decision:
    """Return whether a request may be carried out.

    Args:
        request: body of ``POST /services/create``, without what jaas itself adds (a job's input); it is not changed.
        facts: what the swarm says of the things that it refers to.
        policy: the worker's.
        context: what else is known of the job.
    """
    enforced = policy.mode == "enforce"
    made = dict(request)
    refusals = unknown_settings(request)
    container = (request.get("TaskTemplate") or {}).get("ContainerSpec") if not refusals else None
    if not isinstance(container, Mapping):
        refusals = refusals or [Refusal(_MALFORMED, "TaskTemplate.ContainerSpec", "is missing")]
        return Decision(made, tuple(refusals), enforced)
    for rules in rules_for(policy, context):
        made = completed(made, rules, context.pids_limit)
    task = made["TaskTemplate"]
    container = task["ContainerSpec"]
    for rules in rules_for(policy, context):
        refusals += check_container(container, rules)
        refusals += check_mounts(container, rules)
        refusals += check_references(container, rules, facts)
        refusals += check_networks(task, rules, facts)
        refusals += check_env_secrets(context.env_secrets, rules)
        refusals += check_task(task, rules, context)
    refusals += too_new_settings(made, tuple(facts.engines))
    return Decision(_with_network_ids(made, facts), tuple(dict.fromkeys(refusals)), enforced)


def decide_image(image: str, policy: Policy, context: Context) -> Decision:
    """Return whether an image may run, before its registry is asked for its digest.

    Args:
        image: a reference.
        policy: the worker's.
        context: what else is known of the job.
    """
    found = [one for rules in rules_for(policy, context) for one in check_image(image, rules, pinned=False)]
    return Decision({}, tuple(dict.fromkeys(found)), policy.mode == "enforce")


def decide_service(found: Reference, policy: Policy, context: Context) -> Decision:
    """Return whether a job may be like a deployed service.

    Args:
        found: the service, as the engine has it.
        policy: the worker's.
        context: what else is known of the job.
    """
    refusals = [one for rules in rules_for(policy, context) for one in check_service(found, rules)]
    return Decision({}, tuple(dict.fromkeys(refusals)), policy.mode == "enforce")


def output_limit(policy: Policy, context: Context, most: int) -> int:
    """Return how many bytes a job may return.

    Args:
        policy: the worker's.
        context: what is known of the job.
        most: what the worker allows anyway.
    """
    given = [rules.output for rules in rules_for(policy, context) if rules.output is not None]
    return min([most, *given])


def limits_in_flight(policy: Policy, context: Context) -> dict[str, int]:
    """Return how many jobs may be in flight at once where this job counts: name of what is counted -> how many.

    Each limit counts on its own: that of ``rules`` all jobs, that of a queue or a tenant its jobs. Jobs whose tenant
    only their own label names count apart from the tenant's, so that a forged label takes none of its places.

    Args:
        policy: the worker's.
        context: what is known of the job.
    """
    found = {"all": policy.rules.in_flight}
    for queue in (context.queue, *context.besides):
        if queue in policy.queues:
            found[f"queue:{queue}"] = policy.queues[queue].rules.in_flight
    if context.tenant in policy.tenants:
        kind = "tenant" if _is_believed(policy, context) else "label"
        found[f"{kind}:{context.tenant}"] = policy.tenants[context.tenant].rules.in_flight
    return {name: most for name, most in found.items() if most is not None}


def _with_network_ids(request: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Name networks by their ids, so that it is the checked one that the job joins, whatever is named so by then."""
    task = request["TaskTemplate"]
    known = facts.networks or {}
    networks = [
        {**one, "Target": known[one["Target"]].id} if one.get("Target") in known else one
        for one in task.get("Networks") or ()
    ]
    return {**request, "TaskTemplate": {**task, "Networks": networks}} if networks else request
