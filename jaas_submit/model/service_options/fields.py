"""PURE: the part of a job description that says what its container gets, as `docker service create` has it."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from jaas_submit.model.fields import Model, Name
from jaas_submit.model.service_options.like import fields_of_service
from jaas_submit.model.service_options.references import ConfigMounts
from jaas_submit.model.service_options.table import meaning
from jaas_submit.model.service_options.values import (
    AddressText,
    Capability,
    ContainerLabel,
    ContainerLabelText,
    Count,
    DomainName,
    ExtraHosts,
    Group,
    HostName,
    ResolverOption,
    Sysctls,
    Ulimits,
    list_of_texts,
)

__all__ = ["ServiceOptions"]

_LIST = BeforeValidator(list_of_texts)


class ServiceOptions(Model):
    """What the container gets. ``JobSpec`` adds what is run, when, and what it had before there was this part.

    The hash of a description depends on the order of its fields, so none of them may move.
    """

    configs: ConfigMounts = Field((), max_length=256, description="swarm configs, by name")
    cap_add: Annotated[tuple[Capability, ...], _LIST] = Field((), max_length=64, description=meaning("cap_add"))
    cap_drop: Annotated[tuple[Capability, ...], _LIST] = Field((), max_length=64, description=meaning("cap_drop"))
    ulimits: Ulimits = Field(default_factory=dict, max_length=32, description=meaning("ulimits"))
    sysctls: Sysctls = Field(default_factory=dict, max_length=64, description=meaning("sysctls"))
    init: bool | None = Field(None, description=meaning("init"))
    read_only: bool | None = Field(None, description=meaning("read_only"))
    pids_limit: int | None = Field(None, ge=1, le=4_194_304, description=meaning("pids_limit"))
    groups: Annotated[tuple[Group, ...], _LIST] = Field((), max_length=64, description=meaning("groups"))
    hostname: HostName | None = Field(None, description=meaning("hostname"))
    extra_hosts: ExtraHosts = Field((), max_length=256, description=meaning("extra_hosts"))
    dns: Annotated[tuple[AddressText, ...], _LIST] = Field((), max_length=16, description=meaning("dns"))
    dns_search: Annotated[tuple[DomainName, ...], _LIST] = Field((), max_length=32, description=meaning("dns_search"))
    dns_opt: Annotated[tuple[ResolverOption, ...], _LIST] = Field((), max_length=32, description=meaning("dns_opt"))
    tty: bool = Field(False, description=meaning("tty"))
    oom_score_adj: int | None = Field(None, ge=-1000, le=1000, description=meaning("oom_score_adj"))
    container_labels: dict[ContainerLabel, ContainerLabelText] = Field(
        default_factory=dict, max_length=64, description=meaning("container_labels")
    )
    generic_resources: dict[Name, Count] = Field(
        default_factory=dict, max_length=32, description=meaning("generic_resources")
    )

    @classmethod
    def like(cls, service: object, **changes: Any) -> Self:
        """Return a one-shot with what a deployed service has: image with digest, environment, secrets and so on.

        Args:
            service: what `docker service inspect` prints of it, as text, list or object; or docker-py's
                ``service.attrs``.
            changes: fields that differ, such as ``command=["migrate"]``; each replaces the whole field.

        Raises:
            SpecError: it is no service, or a field is wrong.
        """
        return cls(**{**fields_of_service(service), **changes})

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if both := sorted(set(self.cap_add) & set(self.cap_drop)):
            raise ValueError(f"cap_add: {both[0]} is in cap_drop, too; keep one of them")
        return self
