"""Values for variables of jobs, from files in a folder on the worker's side (JAAS_ENV_SECRETS)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jaas_submit.policy.facts import PolicyRefused

__all__ = ["MAX_VALUE_BYTES", "read_env_secrets"]

MAX_VALUE_BYTES: Final = 64 * 1024
"""Of one value; all variables of a process together may have 2 MB."""


def read_env_secrets(folder: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with their values; nothing here may go anywhere but into the request for the service.

    Args:
        folder: of the worker; empty if it has none.
        wanted: variable -> name of the file. The names are those of a description, so they are no paths.

    Raises:
        PolicyRefused: a value cannot be had; the text names variable and file, and nothing of the value.
    """
    return {variable: _read(folder, variable, name) for variable, name in wanted.items()}


def _read(folder: str, variable: str, name: str) -> str:
    where = f"env_secrets.{variable}"
    if not folder:
        raise PolicyRefused(f"{where}: this worker has no folder of secrets; set JAAS_ENV_SECRETS")
    try:
        data = (Path(folder) / name).read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise PolicyRefused(f"{where}: the folder JAAS_ENV_SECRETS has no readable file {name}: {why}") from None
    if len(data) > MAX_VALUE_BYTES:
        raise PolicyRefused(f"{where}: the file {name} has more than {MAX_VALUE_BYTES:,} bytes; mount it as a secret")
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise PolicyRefused(f"{where}: the file {name} is no UTF-8 text; base64 can carry any bytes") from None
    if "\x00" in text:
        raise PolicyRefused(f"{where}: the file {name} has a NUL character, which no process can be given")
    return text
