"""The checks of `jaas doctor` about the policy: what jobs may ask for, and whether all workers say the same."""

from __future__ import annotations

from jaas_submit.client.client import Client
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.model.bounds import counted
from jaas_submit.policy.decision import rules_for
from jaas_submit.policy.document import Policy
from jaas_submit.policy.facts import Context
from jaas_submit.policy.published import Published, published_policies

__all__ = ["policy_checks"]


def policy_checks(client: Client) -> list[Check]:
    """Return the checks of the workers' policies; nothing if no worker is alive or Redis does not answer.

    Args:
        client: whose workers are checked.
    """
    try:
        workers = client.ledger.queries.workers()
    except LedgerUnavailable:  # which another check reports
        return []
    if not workers:
        return []
    told = published_policies(workers)
    return [_policies(told, len(workers)), *_memory(told)]


def _memory(told: list[Published]) -> list[Check]:
    """Return a warning if a job that names no memory limit gets none."""
    queues = sorted({queue for one in told if one.policy for queue in one.queues if _is_unlimited(one.policy, queue)})
    if not queues:
        return []
    detail = f"a job that names no memory limit has none: {counted(len(queues), 'queue')}, such as {queues[0]}"
    fix = "set rules.resources.memory.default or .required in the policy: one job can take all memory of a node"
    return [Check("memory limits", Verdict.WARN, detail, fix)]


def _is_unlimited(policy: Policy, queue: str) -> bool:
    (rules,) = rules_for(policy, Context(queue=queue))
    memory = rules.resources.memory
    return memory.default is None and memory.maximum is None and not memory.required


def _policies(told: list[Published], workers: int) -> Check:
    kinds = {one.digest: one.sentence for one in told}
    detail = "; ".join(
        f"{counted(sum(one.digest == digest for one in told), 'worker')}: {sentence}"
        for digest, sentence in sorted(kinds.items())
    )
    if missing := workers - len(told):
        fix = "upgrade these workers: they run whatever a job asks for"
        more = f"{counted(missing, 'worker')} without a policy"
        return Check("policy", Verdict.WARN, "; ".join(filter(None, [detail, more])), fix)
    if len(kinds) > 1:
        fix = "give all workers of an installation the same JAAS_POLICY_FILE or JAAS_POLICY"
        return Check("policy", Verdict.WARN, detail, fix)
    if told[0].mode != "enforce":
        fix = 'write mode = "enforce" when the log has no `policy.warned` any more'
        return Check("policy", Verdict.WARN, detail, fix)
    return Check("policy", Verdict.OK, detail)
