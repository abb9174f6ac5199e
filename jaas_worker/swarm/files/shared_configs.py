"""Swarm configs with files of jobs: one for each content and hour, for all jobs that start within that hour.

A config is removed in the next but one hour at the earliest, if no service has it. By then no worker starts a service
with it, so that nobody has to agree with anybody on when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from jaas_submit.errors import EngineRefused
from jaas_submit.model.wire_names import LABEL_FILE, LABEL_FILES_OF, LABEL_LEDGER, LABEL_PREFIX
from jaas_worker.swarm.engine import Engine

__all__ = ["SharedConfig", "SharedConfigs", "is_config_of", "remove_unused"]

NAMES_BEGIN: Final = "jaas-file-"
_DIGITS: Final = 40
"""Of the digest in a name, which may have 64 characters. Source: moby/swarmkit, manager/controlapi/common.go."""

_PERIOD_S: Final = 3600


class SharedConfig(NamedTuple):
    """A config."""

    id: str
    name: str


class SharedConfigs:
    """The configs that one worker has made, or found. Threads may share it.

    Args:
        engine: the swarm.
        installation: labels of the installation, with LABEL_LEDGER.
    """

    def __init__(self, engine: Engine, installation: Mapping[str, str]) -> None:
        self._engine = engine
        self._installation = dict(installation)
        self._known: dict[str, SharedConfig] = {}

    def get(self, digest: str, content: Callable[[], bytes], now: float) -> SharedConfig:
        """Return the config with a content; create it where it does not exist.

        Args:
            digest: of the content (SHA-256).
            content: returns it; 1 to 1,023,999 bytes.
            now: the present time, in seconds since the epoch.

        Raises:
            EngineRefused: the engine will never take it.
            EngineUnavailable: it does not answer.
        """
        period = int(now) // _PERIOD_S
        name = f"{_stem(digest, self._installation)}-{period:x}"
        known = self._known.get(name)
        if known is None:
            own = self._installation
            labels = {LABEL_FILES_OF: own.get(LABEL_LEDGER, ""), LABEL_PREFIX: own.get(LABEL_PREFIX, "")}
            labels[LABEL_FILE] = digest
            known = SharedConfig(self._engine.create_config(name, labels, content()), name)
            # What was made in another hour is not used again.
            self._known = {**{one: it for one, it in self._known.items() if _period(one) == period}, name: known}
        return known

    def forget(self) -> None:
        """Look for each config again when it is needed: somebody may have removed it."""
        self._known = {}


def is_config_of(name: str, digest: str, installation: Mapping[str, str]) -> bool:
    """Return whether a config's name is that of a content.

    Args:
        name: the config's.
        digest: of the content.
        installation: labels of the installation.
    """
    return name.rpartition("-")[0] == _stem(digest, installation)


def remove_unused(engine: Engine, ledger_id: str, now: float) -> int:
    """Remove the configs of hours that are over which no service has any more; return how many.

    Args:
        engine: the swarm.
        ledger_id: of the installation.
        now: the present time, in seconds since the epoch.

    Raises:
        EngineUnavailable: the engine does not answer.
    """
    removed = 0
    for name, labels in engine.configs(f"{LABEL_FILES_OF}={ledger_id}", NAMES_BEGIN).items():
        if _period(name) >= int(now) // _PERIOD_S - 1:
            continue
        try:
            removed += engine.remove_config(name, labels)
        except EngineRefused:  # a service has it
            continue
    return removed


def _stem(digest: str, installation: Mapping[str, str]) -> str:
    # Two installations in one swarm have configs of their own, as each removes its own.
    mixed = hashlib.sha256(f"{installation.get(LABEL_LEDGER, '')} {digest}".encode()).hexdigest()
    return f"{NAMES_BEGIN}{mixed[:_DIGITS]}"


def _period(name: str) -> int:
    """Return the hour in a config's name; one far ahead if it has none, as it was not made here."""
    try:
        return int(name.rpartition("-")[2], 16)
    except ValueError:
        return 2**63
