"""Who calls: what a client says of itself in the records that it writes. Nobody checks it."""

from __future__ import annotations

import getpass
import os
import socket
from functools import cache

from jaas_submit.model.bounds import shown

__all__ = ["caller"]

_MAX_CHARACTERS = 128


@cache
def caller() -> str:
    """Return ``user@host`` of this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, as in many containers
        user = str(os.getuid())
    return shown(f"{user}@{socket.gethostname()}", _MAX_CHARACTERS)
