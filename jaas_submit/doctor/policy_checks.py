"""The check of `jaas doctor` about the policy: what jobs may ask for, and whether all workers say the same."""

from __future__ import annotations

from jaas_submit.client.client import Client
from jaas_submit.doctor.check import Check, Verdict
from jaas_submit.errors import LedgerUnavailable
from jaas_submit.model.bounds import counted
from jaas_submit.policy.published import published_policies

__all__ = ["policy_checks"]


def policy_checks(client: Client) -> list[Check]:
    """Return the check of the workers' policies; nothing if no worker is alive or Redis does not answer.

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
    kinds = {one.digest: one.sentence for one in told}
    detail = "; ".join(
        f"{counted(sum(one.digest == digest for one in told), 'worker')}: {sentence}"
        for digest, sentence in sorted(kinds.items())
    )
    if missing := len(workers) - len(told):
        fix = "upgrade these workers: they run whatever a job asks for"
        more = f"{counted(missing, 'worker')} without a policy"
        return [Check("policy", Verdict.WARN, "; ".join(filter(None, [detail, more])), fix)]
    if len(kinds) > 1:
        fix = "give all workers of an installation the same JAAS_POLICY_FILE or JAAS_POLICY"
        return [Check("policy", Verdict.WARN, detail, fix)]
    if told[0].mode != "enforce":
        return [
            Check("policy", Verdict.WARN, detail, 'write mode = "enforce" when the log has no `policy.warned` any more')
        ]
    return [Check("policy", Verdict.OK, detail)]
