"""PURE: a network to join, as a request has it."""

from __future__ import annotations

from typing import Any

from jaas_submit.model.service_options.networks import NetworkAttachment

__all__ = ["network_part"]


def network_part(network: NetworkAttachment) -> dict[str, Any]:
    """Return an entry of ``TaskTemplate.Networks``.

    Args:
        network: of a description.
    """
    made: dict[str, Any] = {"Target": network.name}
    if network.aliases:
        made["Aliases"] = list(network.aliases)
    if network.driver_opts:
        made["DriverOpts"] = dict(network.driver_opts)
    return made
