"""PURE: secrets and configs, as a request has them."""

from __future__ import annotations

from typing import Any, Literal

from jaas_submit.model.service_options.references import ConfigMount, SecretMount

__all__ = ["file_part"]


def file_part(kind: Literal["Secret", "Config"], file: SecretMount | ConfigMount, id_: str) -> dict[str, Any]:
    """Return an entry of ``ContainerSpec.Secrets`` or ``ContainerSpec.Configs``.

    Args:
        kind: which of both.
        file: of a description.
        id_: the swarm's id.
    """
    placed = {"Name": file.target or file.source, "UID": file.uid, "GID": file.gid, "Mode": file.mode}
    return {f"{kind}ID": id_, f"{kind}Name": file.source, "File": placed}
