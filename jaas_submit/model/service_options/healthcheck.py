"""PURE: the check by which the engine tells whether a container is healthy; one that is not is ended by the swarm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from jaas_submit.model.bounds import parse_duration
from jaas_submit.model.fields import Model

__all__ = ["Healthcheck", "HealthcheckField"]

_Time = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=float | str), Field(ge=0.001, le=86400)]


def _words(value: object) -> object:
    """Accept a shell's command line in one text, as compose files do."""
    return ("CMD-SHELL", value) if isinstance(value, str) else value


class Healthcheck(Model):
    """Which check counts: none, the image's own, or one of the job's. What is left out is as the image has it."""

    disable: bool = Field(default=False, description="true: none counts, whatever the image has")
    test: (
        Annotated[
            tuple[Annotated[str, Field(max_length=128 * 1024)], ...],
            BeforeValidator(_words, json_schema_input_type=str | list[str]),
        ]
        | None
    ) = Field(
        default=None,
        max_length=1024,
        description='a command for a shell in one text, or ["CMD", "program", "argument"]; null: the image\'s own',
    )
    interval: _Time | None = Field(default=None, description="seconds between two checks")
    timeout: _Time | None = Field(default=None, description="seconds after which a check counts as failed")
    retries: int | None = Field(default=None, ge=1, le=1000, description="checks that must fail one after the other")
    start_period: _Time | None = Field(
        default=None, description="seconds from the start in which failed checks do not count"
    )
    start_interval: _Time | None = Field(
        default=None, description="seconds between two checks in that time; Docker 25 and newer"
    )

    @property
    def is_own(self) -> bool:
        """Whether the job changes anything of the image's check."""
        return any(getattr(self, name) is not None for name in type(self).model_fields if name != "disable")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.disable and self.is_own:
            raise ValueError("disable: cannot go with another setting of the check; leave one out")
        if self.test is not None and (len(self.test) < 2 or self.test[0] not in {"CMD", "CMD-SHELL"}):
            raise ValueError('test: write a shell\'s command in one text, or ["CMD", "program", "argument"]')
        if self.test is not None and any("\x00" in word for word in self.test):
            raise ValueError("test: has a NUL character, which no process can be given")
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.is_own else not self.disable


def _choice(value: object) -> object:
    """Accept true (the image's own counts) and false (none does)."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if isinstance(value, bool):
        return {"disable": not value}
    if not isinstance(value, Mapping | Healthcheck):
        raise ValueError('must be true or false, or an object such as {"test": "test -f /tmp/alive"}')
    return value


HealthcheckField = Annotated[Healthcheck, BeforeValidator(_choice, json_schema_input_type=bool | Healthcheck)]
