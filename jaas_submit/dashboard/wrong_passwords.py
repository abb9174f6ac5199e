"""PURE: how long an address waits that has given wrong passwords."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from typing import Final, NamedTuple

__all__ = ["MAX_ADDRESSES", "MAX_PAUSE_S", "WrongPasswords", "pause_s"]

FREE_TRIES: Final = 5
"""Wrong passwords without a pause: people mistype, and a browser asks for several files at once."""
MAX_PAUSE_S: Final = 900
FORGET_AFTER_S: Final = 3600.0
"""An address that has given no wrong password for this long begins anew."""
MAX_ADDRESSES: Final = 10_000
"""Some 2 MB. If there are more, the one whose last wrong password is the oldest is forgotten."""


class _Tries(NamedTuple):
    number: int
    last: float
    until: float


def pause_s(count: int) -> int:
    """Return the pause in seconds after the wrong password number ``count``: it doubles up to ``MAX_PAUSE_S``."""
    if count < FREE_TRIES:
        return 0
    return min(MAX_PAUSE_S, 1 << min(count - FREE_TRIES, 10))


class WrongPasswords:
    """The wrong passwords of each client address. It is not safe for threads: Tornado has one."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        """The one whose last wrong password is the oldest comes first."""

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._tries)

    def wait_s(self, address: str, now: float) -> int:
        """Return for how many seconds no password of an address is looked at; 0: it may try one.

        Args:
            address: the client's.
            now: seconds of a clock that never goes back.
        """
        tries = self._tries.get(_network(address))
        return max(0, math.ceil(tries.until - now)) if tries else 0

    def note(self, address: str, now: float) -> int:
        """Note a wrong password, and return the pause in seconds that follows.

        Args:
            address: the client's.
            now: as for ``wait_s``.
        """
        while self._tries and next(iter(self._tries.values())).last < now - FORGET_AFTER_S:
            self._tries.popitem(last=False)
        network = _network(address)
        before = self._tries.pop(network, None)
        count = before.number + 1 if before else 1
        pause = pause_s(count)
        self._tries[network] = _Tries(count, now, now + pause)
        if len(self._tries) > MAX_ADDRESSES:
            self._tries.popitem(last=False)
        return pause


def _network(address: str) -> str:
    """Return an IPv4 address as it is, and of an IPv6 address the /64, all of which one client may use."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)
