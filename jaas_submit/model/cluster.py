"""The swarm's nodes, as a worker saw them last: what each has to offer."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Cluster", "Node"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Node(_Model):
    """A node of the swarm, as last seen by a worker."""

    id: str
    hostname: str
    role: str = "worker"
    availability: str = "active"
    state: str = "ready"
    os: str = ""
    arch: str = ""
    address: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    engine_labels: dict[str, str] = Field(default_factory=dict)
    engine_version: str = Field("", description="version of its engine; empty where it is not known")
    cpus: float = Field(0.0, description="cores in all")
    memory: int = Field(0, description="bytes in all")
    free_cpus: float = Field(0.0, description="cores that no running task has reserved")
    free_memory: int = Field(0, description="bytes that no running task has reserved")
    generic: dict[str, int] = Field(default_factory=dict, description="its generic resources in all, by kind")
    free_generic: dict[str, int] = Field(default_factory=dict, description="those that no running task has reserved")
    log_drivers: tuple[str, ...] = Field((), description="log drivers that its engine has; empty where it names none")


class Cluster(_Model):
    """The swarm's nodes at one time."""

    at: datetime
    nodes: tuple[Node, ...] = ()
