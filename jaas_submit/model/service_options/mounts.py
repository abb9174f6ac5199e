"""PURE: what is mounted in a container, with the options of each kind of mount."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from jaas_submit.model.fields import AbsolutePath, LogDriverName, Model, Size, Text
from jaas_submit.model.service_options.values import ContainerLabel, ContainerLabelText

__all__ = ["Mount"]

_KINDS: Final = {"bind_": "bind", "volume_": "volume", "tmpfs_": "tmpfs"}


class Mount(Model):
    """A host folder, a volume or a tmpfs in the container. The options have docker's names."""

    type: Literal["bind", "volume", "tmpfs"] = "bind"
    source: str = Field(
        default="", max_length=4096, description="host path (bind) or volume name (volume); empty for tmpfs"
    )
    target: AbsolutePath
    read_only: bool = False
    bind_propagation: Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"] | None = Field(
        default=None, description="how mounts below it show up on the host, and those of the host here; null: rprivate"
    )
    bind_recursive: Literal["enabled", "disabled", "writable", "readonly"] | None = Field(
        default=None,
        description="whether what the host has mounted below it is there, too: disabled leaves it out; with read_only, "
        "writable keeps it writable and readonly fails where it cannot be read-only (both: Docker 25 and newer)",
    )
    volume_driver: LogDriverName | None = Field(
        default=None, description="what makes the volume if there is none; null: local"
    )
    volume_options: dict[Text, ContainerLabelText] = Field(
        default_factory=dict, max_length=64, description="options of that driver, such as type and device"
    )
    volume_labels: dict[ContainerLabel, ContainerLabelText] = Field(
        default_factory=dict, max_length=64, description="labels of the volume, if it is made"
    )
    volume_nocopy: bool = Field(default=False, description="true: an empty volume is not filled with the image's files")
    volume_subpath: Annotated[str, StringConstraints(pattern=r"^[^/\x00][^\x00]*$", max_length=4096)] | None = Field(
        default=None, description="folder of the volume that is mounted, instead of all of it; Docker 26 and newer"
    )
    tmpfs_size: Size | None = Field(
        default=None, ge=4096, description="bytes, or a text such as 64M; null: half of the memory"
    )
    tmpfs_mode: int | None = Field(
        default=None, ge=0, le=0o7777, description="permissions, as a number; null: 1777 in octal"
    )

    @model_validator(mode="after")
    def _source_fits_type(self) -> Self:
        if self.type == "bind" and not self.source.startswith("/"):
            raise ValueError("source of a bind mount must be an absolute path; for a volume say type=volume")
        if self.type == "tmpfs" and self.source:
            raise ValueError("a tmpfs mount has no source; leave it out")
        if self.type == "volume" and "/" in self.source:
            raise ValueError("source of a volume mount is a volume's name, without slashes; for a path say type=bind")
        return self

    @model_validator(mode="after")
    def _options_fit_type(self) -> Self:
        for name in type(self).model_fields:
            kind = next((kind for prefix, kind in _KINDS.items() if name.startswith(prefix)), self.type)
            if kind != self.type and getattr(self, name):
                raise ValueError(f"{name}: is for mounts of type {kind}, and this is a {self.type}; leave it out")
        if self.bind_recursive in {"writable", "readonly"} and not self.read_only:
            raise ValueError(f"bind_recursive: {self.bind_recursive} is for a read-only mount; set read_only")
        if self.bind_recursive == "readonly" and self.bind_propagation != "rprivate":
            raise ValueError("bind_recursive: readonly needs bind_propagation=rprivate")
        return self
