"""Swarm configs with files of jobs: one for each content and hour, for all jobs that start within that hour.

A config is removed in the next but one hour at the earliest, if no service has it. By then no worker starts a service
with it, so that nobody has to agree with anybody on when.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from jaas_submit.errors import AnswerTooLong, EngineRefused
from jaas_submit.model.wire_names import LABEL_FILE, LABEL_FILES_OF, LABEL_LEDGER, LABEL_PREFIX
from jaas_worker.swarm.engine import Engine

__all__ = ["SharedConfig", "SharedConfigs", "UnusedConfigs", "is_config_of"]

NAMES_BEGIN: Final = "jaas-file-"
_DIGITS: Final = 40
"""Of the digest in a name, which may have 64 characters. Source: moby/swarmkit, manager/controlapi/common.go."""

_LONGEST: Final = _DIGITS + 8
"""Characters after which a part of the names is not made finer: by then it is one hour, of five hexadecimal digits."""

_PERIOD_S: Final = 3600

_MOST_LISTED: Final = 16 * 2**20
"""Bytes of the list of a part: a dozen of the largest configs."""

_ROUND_TIME_S: Final = 2.0
"""Seconds after which a round starts no further part: the next round continues there."""


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
        self._period = 0

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
            if period != self._period:  # what was made in another hour is not used again
                self._period, self._known = period, {}
            self._known[name] = known
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


class UnusedConfigs:
    """Removes the configs of hours that are over which no service has any more. One worker does it for all.

    An engine lists configs with their contents, of 1 MB each. So they are listed by parts of their names, and by finer
    parts where one is too long.

    Args:
        engine: the swarm.
        ledger_id: of the installation.
        round_time: seconds after which a round starts no further part.
    """

    def __init__(self, engine: Engine, ledger_id: str, round_time: float = _ROUND_TIME_S) -> None:
        self._engine = engine
        self._label = f"{LABEL_FILES_OF}={ledger_id}"
        self._round_time = round_time
        self._parts: list[str] = []

    def run_once(self, now: float) -> bool:
        """Remove them, as many as the time allows.

        Args:
            now: the present time, in seconds since the epoch.

        Returns:
            False if there is more to look at; the next round continues there.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        until = time.monotonic() + self._round_time
        self._parts = self._parts or _finer("")
        while self._parts:
            part = self._parts.pop()  # first, so that one that fails does not keep the others
            try:
                found = self._engine.configs(self._label, f"{NAMES_BEGIN}{part}", _MOST_LISTED)
            except AnswerTooLong:
                if len(part) >= _LONGEST:
                    raise
                self._parts += _finer(part)
            else:
                self._remove(found, int(now) // _PERIOD_S)
            if time.monotonic() >= until:
                break
        return not self._parts

    def _remove(self, found: Mapping[str, Mapping[str, str]], period: int) -> None:
        for name, labels in found.items():
            if _period(name) < period - 1:
                with contextlib.suppress(EngineRefused):  # a service has it
                    self._engine.remove_config(name, labels)


def _finer(part: str) -> list[str]:
    """Return the parts of a part; see ``_stem`` for the names. Parts end in hours where many are of one content."""
    return [f"{part}-"] if len(part) == _DIGITS else [f"{part}{digit}" for digit in "0123456789abcdef"]


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
