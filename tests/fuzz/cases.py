"""What all levels share: a case, how it is drawn, and what is said of one that fails."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

__all__ = ["Case", "Failure", "Hang", "random_of", "sentence_defect", "summary", "within"]

_LONGEST_SENTENCE: Final = 1000
_CONTROLS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that may move a terminal's cursor, end a line, or cannot be written at all."""

_CPU: Final = 5.0
"""Seconds of processor time, far more than any case takes, after which one counts as a hang."""


_RAISED: Final = re.compile(r"([^:]*: )?(?!LedgerUnavailable)\w+: ")


class Case(NamedTuple):
    """One case of a level."""

    level: str
    number: int
    title: str
    """Which specimen, and what was done to it."""
    content: Any

    @property
    def name(self) -> str:
        """What ``--case`` takes."""
        return f"{self.level}:{self.number}"


class Failure(NamedTuple):
    """A case in which a promise was broken."""

    seed: int
    name: str
    title: str
    why: str

    def __str__(self) -> str:
        again = f"python -m tests.fuzz --seed {self.seed} --case {self.name}"
        return f"{self.name}: {self.title}\n    {self.why}\n    again: {again}"


def summary(failures: Iterable[Failure]) -> str:
    """Return one failure of each kind in full, the most frequent first, and the names of others.

    Args:
        failures: the same error at the same place, or the same words but for numbers and quotations, are one kind.
    """
    found: dict[str, list[Failure]] = {}
    for one in failures:
        raised = _RAISED.match(one.why)
        said = raised[0] if raised else re.sub(r"[0-9a-f-]{9,}|\d+|'.*'|\".*\"", "", one.why)[:80]
        found.setdefault(said, []).append(one)
    texts = []
    for same in sorted(found.values(), key=len, reverse=True):
        first, *others = sorted(same, key=lambda one: len(one.title))
        names = ", ".join(one.name for one in others[:8])
        texts.append(f"{first}\n    and {len(others)} more of its kind: {names}" if others else str(first))
    return "\n".join(texts)


class Hang(BaseException):
    """A case took more processor time than any may; no ``except Exception`` hides it."""


def random_of(seed: int, level: str, number: int) -> random.Random:
    """Return the random source of one case, which depends on no other case."""
    return random.Random(f"{seed}:{level}:{number}")


@contextlib.contextmanager
def within(cpu: float = _CPU) -> Iterator[None]:
    """Raise ``Hang`` when the main thread's process uses more processor time than this.

    Processor time, not time: a busy machine makes no failure.

    Args:
        cpu: seconds.
    """

    def ring(*_: object) -> None:
        raise Hang(f"more than {cpu:g} s of processor time")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, cpu)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def sentence_defect(text: str) -> str:
    """Return what is wrong with a sentence for people; empty when nothing is.

    Args:
        text: what an error says.
    """
    if not text.strip():
        return "it says nothing"
    if len(text) > _LONGEST_SENTENCE:
        return f"its sentence has {len(text):,} characters: {text[:120]!r}..."
    bad = [one for one in text if unicodedata.category(one) in _CONTROLS]
    return f"its sentence has the raw character {bad[0]!r}: {text[:200]!r}" if bad else ""
