"""PURE: what a job prints. All of it follows from a few numbers, so that the checker knows every byte beforehand."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final

__all__ = ["FLOOD_BYTES", "FLOOD_LINE", "NOTHING", "PAUSE_S", "Payload", "expected", "payload_of"]

FLOOD_BYTES: Final = 100 * 1024 * 1024

FLOOD_LINE: Final = "a line of a flood, which goes on and on"

PAUSE_S: Final = 0.5
"""Between two pieces of an output that is written little by little."""

_SHAPES: Final = {"line": 30, "text": 20, "binary": 20, "large": 6, "nothing": 10}
"""And their weights."""


@dataclass(frozen=True)
class Payload:
    """The output of a job.

    Args:
        shape: ``nothing``, ``line``, ``text``, ``binary``, ``large`` (more than is kept) or ``flood``.
        seed: of its bytes.
        stdout: bytes on standard output.
        stderr: bytes on standard error.
        pieces: it is written in so many pieces, with a pause behind each; 1 means at once.
    """

    shape: str
    seed: int = 0
    stdout: int = 0
    stderr: int = 0
    pieces: int = 1

    @property
    def piece_bytes(self) -> int:
        """Bytes of standard output in a piece, but for the last one."""
        return max(math.ceil(self.stdout / self.pieces), 1)

    def to_event(self) -> dict[str, Any]:
        """Return it for the history."""
        return asdict(self)


NOTHING: Final = Payload("nothing")


def payload_of(rng: random.Random, seconds: float, *, steady: bool) -> Payload:
    """Draw an output.

    Args:
        rng: decides.
        seconds: for which the job runs.
        steady: it is written little by little, if the job runs for long enough.
    """
    shape = rng.choices(list(_SHAPES), list(_SHAPES.values()))[0]
    seed, share = rng.randrange(2**31), rng.random()
    size = {"nothing": 0, "line": 1 + int(share * 80), "large": int(2_200_000 + share * 2_000_000)}.get(
        shape, 1 + int(share**3 * 200_000)
    )
    errors = rng.randrange(1, 5000) if shape != "nothing" and rng.random() < 0.3 else 0
    pieces = max(int(seconds / PAUSE_S), 1) if steady and size else 1
    return Payload(shape, seed, size, errors, pieces)


@lru_cache(maxsize=4)
def expected(payload: Payload) -> dict[str, bytes]:
    """Return what a job writes to each of its two streams if nothing ends it.

    Args:
        payload: the job's.
    """
    if payload.shape == "flood":
        line = f"{FLOOD_LINE}\n".encode()
        return {"stdout": (line * (FLOOD_BYTES // len(line) + 1))[:FLOOD_BYTES], "stderr": b""}
    rng = random.Random(payload.seed)
    make = _binary if payload.shape in {"binary", "large"} else _text
    return {"stdout": make(rng, payload.stdout), "stderr": make(rng, payload.stderr)}


def _binary(rng: random.Random, size: int) -> bytes:
    """Return bytes without any order; those of a large output have stretches of one byte."""
    data = bytearray(rng.randbytes(size))
    if size > 1000:
        start = rng.randrange(size - 500)
        data[start : start + 500] = bytes([rng.choice([0, 10, 13, 255])]) * 500
    return bytes(data)


def _text(rng: random.Random, size: int) -> bytes:
    """Return lines of any length, some with a carriage return; the last one may have no end."""
    data = bytearray()
    while len(data) < size:
        length = rng.choice([0, 1, rng.randrange(200), rng.randrange(200), rng.randrange(20_000)])
        data += bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz 0123456789", k=length)) + rng.choice([b"\n", b"\r\n"])
    if size and rng.random() < 0.7:
        data[size - 1] = 10
    return bytes(data[:size])
