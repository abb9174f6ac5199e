"""The worker's policy, from its settings."""

from __future__ import annotations

from pathlib import Path

from jaas_submit.errors import SpecError
from jaas_submit.policy.document import Policy, parse_policy
from jaas_worker.settings import Settings

__all__ = ["load_policy"]


def load_policy(settings: Settings) -> Policy:
    """Return the policy that a worker's settings name: a file, or else a level.

    Args:
        settings: of the worker.

    Raises:
        SpecError: the file cannot be read, or it is no policy; the text names the variable, the key and the fix.
    """
    if not settings.policy_file:
        return Policy(level=settings.policy)
    if "policy" in settings.model_fields_set:
        raise SpecError("JAAS_POLICY: cannot go with JAAS_POLICY_FILE; write `level` into the file", field="policy")
    try:
        text = Path(settings.policy_file).read_text(encoding="utf-8")
    except OSError as error:
        where = settings.policy_file
        raise SpecError(f"JAAS_POLICY_FILE: {where}: {error.strerror}", field="policy_file") from None
    except UnicodeDecodeError:
        raise SpecError(f"JAAS_POLICY_FILE: {settings.policy_file}: is no UTF-8 text", field="policy_file") from None
    try:
        return parse_policy(text, settings.policy_file)
    except SpecError as error:
        raise SpecError(f"JAAS_POLICY_FILE: {error}", field="policy_file") from None
