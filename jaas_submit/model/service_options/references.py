"""PURE: secrets and configs of the swarm, as files in a container. Only their names travel, never their contents."""

from __future__ import annotations

import posixpath
from typing import Annotated

from pydantic import BeforeValidator, Field

from jaas_submit.model.fields import Model, Name
from jaas_submit.model.service_options.values import list_of_texts

__all__ = ["ConfigMount", "ConfigMounts", "SecretMount", "SecretMounts"]


class SecretMount(Model):
    """A swarm secret as a file in the container."""

    source: Name
    target: str = Field(default="", max_length=4096, description="file name; empty means /run/secrets/SOURCE")
    uid: str = Field(default="0", pattern=r"^\d+$")
    gid: str = Field(default="0", pattern=r"^\d+$")
    mode: int = Field(default=0o444, ge=0, le=0o7777)

    @property
    def path(self) -> str:
        """Where the container finds it. Source: moby, container/container_unix.go, ``SecretFilePath``."""
        return posixpath.join("/run/secrets", self.target or self.source)


class ConfigMount(SecretMount):
    """A swarm config as a file in the container."""

    target: str = Field(
        default="", max_length=4096, pattern=r"^[^\x00]*$", description="path of the file; empty means /SOURCE"
    )

    @property
    def path(self) -> str:
        return posixpath.join("/", self.target or self.source)


def _named(value: object) -> object:
    if isinstance(value, list | tuple):
        return [{"source": item} if isinstance(item, str) else item for item in value]
    return list_of_texts(value)


SecretMounts = Annotated[tuple[SecretMount, ...], BeforeValidator(_named)]
ConfigMounts = Annotated[tuple[ConfigMount, ...], BeforeValidator(_named)]
