"""PURE: what a worker tells the ledger of its policy, and what readers make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from jaas_submit.model.bounds import shown
from jaas_submit.policy.document import Policy

__all__ = ["Published", "about_policy", "published_policies"]

_MAX_TEXT: Final = 16 * 1024
"""Characters of a policy that a worker tells: its report is written to Redis again and again."""


class Published(NamedTuple):
    """A worker's policy, as it reports it."""

    holder: str
    queues: tuple[str, ...]
    level: str
    mode: str
    digest: str
    policy: Policy | None
    """None: it is too long to be told, or of a newer version."""
    containers: tuple[str, ...] = ()
    """What the worker gives each container by default, in words; none from an older worker."""

    @property
    def sentence(self) -> str:
        """What holds, in a few words."""
        how = "" if self.mode == "enforce" else ", not enforced (mode warn)"
        return f"level {self.level}, digest {self.digest}{how}"


def about_policy(policy: Policy) -> dict[str, str]:
    """Return what a worker reports of its policy.

    Args:
        policy: the worker's.
    """
    text = policy.text()
    about = {"level": policy.level, "mode": policy.mode, "digest": policy.digest()}
    return {**about, "text": text} if len(text) <= _MAX_TEXT else about


def published_policies(workers: Iterable[Mapping[str, Any]]) -> list[Published]:
    """Return the policies of the workers that report one.

    Args:
        workers: their last reports.
    """
    found = []
    for worker in workers:
        told = worker.get("policy")
        if not isinstance(told, Mapping):  # an older worker
            continue
        words = {name: shown(told.get(name, "")) for name in ("level", "mode", "digest")}
        queues = tuple(map(str, worker.get("queues") or [worker.get("queue", "")]))
        policy = _read(told.get("text"))
        holder, defaults = str(worker.get("holder", "")), _defaults(worker.get("containers"))
        found.append(Published(holder, queues, **words, policy=policy, containers=defaults))
    return found


def _defaults(told: object) -> tuple[str, ...]:
    if not isinstance(told, Mapping):
        return ()
    given = told.get("capabilities")
    kept = [shown(name) for name in given] if isinstance(given, list | tuple) else []
    words = (
        f"capabilities {' '.join(kept) or 'none'}",
        "an init" if told.get("init") is True else "no init",
        "no new privileges, where the engines know that" if told.get("no_new_privileges") is True else "",
    )
    return tuple(word for word in words if word)


def _read(text: object) -> Policy | None:
    try:
        return Policy.model_validate_json(text) if isinstance(text, str) else None
    except ValidationError:
        return None
