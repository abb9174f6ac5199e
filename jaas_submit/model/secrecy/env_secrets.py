"""PURE: variables whose values a worker puts in when it creates the service."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, StringConstraints

from jaas_submit.model.bounds import shown

__all__ = ["EnvSecrets", "SecretFile"]

_VARIABLE: Final = re.compile(r"[^=\x00\s,]{1,1024}\Z")

SecretFile = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]
"""Name of a file in the workers' folder of secrets (JAAS_ENV_SECRETS), not a path."""


def _names(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if not _VARIABLE.match(name):
            raise ValueError(f"{shown(name)!r} is no variable name; use NAME without blanks, '=' or ','")
    return value


EnvSecrets = Annotated[dict[str, SecretFile], AfterValidator(_names)]
"""Variable -> name of the secret."""
