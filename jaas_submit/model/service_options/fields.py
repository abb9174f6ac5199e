"""PURE: the part of a job description that says what its container gets, as `docker service create` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from jaas_submit.model.fields import Model, Name
from jaas_submit.model.service_options.like import SERVICE_NAME, fields_of_service, is_service_name, over
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

_ServiceName = Annotated[str, StringConstraints(pattern=SERVICE_NAME)]


class ServiceOptions(Model):
    """What the container gets. ``JobSpec`` adds what is run, when, and what it had before there was this part.

    The hash of a description depends on the order of its fields, so none of them may move.
    """

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["image"]}, {"required": ["like_service"]}]})

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

    like_service: _ServiceName | None = Field(
        None,
        description="a deployed service, by name, of which the worker takes image, environment, secrets and so on when "
        "it launches the job; what the description says itself replaces that or is added",
    )

    @classmethod
    def like(cls, service: object, **changes: Any) -> Self:
        """Return a one-shot with what a deployed service has: image with digest, environment, secrets and so on.

        Args:
            service: its name: a worker looks it up when it launches the job. Or what `docker service inspect` prints of
                it, as text, list or object; or docker-py's ``service.attrs``.
            changes: fields that differ, such as ``command=["migrate"]``. Entries of objects (``env``, ``limits``) and
                of lists of things (``networks``, ``mounts``, ``secrets``, ``constraints``) are added.

        Raises:
            SpecError: it is no service, or a field is wrong.
        """
        if isinstance(service, str) and is_service_name(service):
            return cls(**{"like_service": service, **changes})
        return cls(**over(fields_of_service(service), changes))

    def with_service(self, fields: Mapping[str, Any]) -> Self:
        """Return the description with the fields of the service that it is to be like, in the place of its name.

        Args:
            fields: what ``fields_of_service`` has returned.

        Raises:
            SpecError: they do not go together.
        """
        own = self.model_dump(mode="json", exclude_defaults=True, exclude={"like_service"})
        return type(self)(**over(fields, own))

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if both := sorted(set(self.cap_add) & set(self.cap_drop)):
            raise ValueError(f"cap_add: {both[0]} is in cap_drop, too; keep one of them")
        return self
