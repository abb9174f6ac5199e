"""PURE: the networks that a container joins."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer

from jaas_submit.model.fields import Model, Name
from jaas_submit.model.service_options.values import list_of_texts

__all__ = ["NetworkAttachment", "Networks"]


class NetworkAttachment(Model):
    """An overlay network to join. Without options it is written as its name alone."""

    name: Name
    aliases: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,252}$")], ...],
        BeforeValidator(list_of_texts),
    ] = Field(default=(), max_length=16, description="further names by which others on this network find the container")
    driver_opts: dict[
        Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")],
        Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00]*$")],
    ] = Field(default_factory=dict, max_length=16, description="options of the network's driver for this container")

    @model_serializer(mode="wrap")
    def _as_name(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.aliases or self.driver_opts else self.name


def _network(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


_NamedOrWhole = Annotated[NetworkAttachment, BeforeValidator(_network, json_schema_input_type=Name | NetworkAttachment)]
Networks = Annotated[tuple[_NamedOrWhole, ...], BeforeValidator(list_of_texts)]
"""Names, or objects with options."""
