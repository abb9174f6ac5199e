"""The three-node lab as a campaign sees it: `scripts/lab` for the machines, the engines' API for the swarm."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

import docker

__all__ = ["NODES", "Lab"]

REPO = Path(__file__).resolve().parents[2]
NODES = (1, 2, 3)


class Lab:
    """The lab, which must be up.

    Args:
        hosts: the engines' URLs, in the order of the nodes (``JAAS_LAB_HOSTS``).
    """

    def __init__(self, hosts: list[str]) -> None:
        self.hosts = hosts

    def run(self, action: str, node: int) -> None:
        """Run ``scripts/lab ACTION NODE``.

        Raises:
            CalledProcessError: it failed; its output is in the error.
        """
        subprocess.run(
            [REPO / "scripts" / "lab", action, str(node)], check=True, timeout=120, capture_output=True, text=True
        )

    def socket(self, node: int) -> Path:
        """Return the path of a node's engine socket."""
        return Path(self.hosts[node - 1].removeprefix("unix://"))

    def _api(self, node: int, timeout: int = 10) -> Any:
        return docker.APIClient(base_url=self.hosts[node - 1], version="auto", timeout=timeout)

    def nodes(self) -> list[dict[str, Any]]:
        """Return the swarm's nodes as any manager that answers knows them."""
        errors = []
        for node in NODES:
            try:
                api = self._api(node)
                try:
                    return list(api.nodes())
                finally:
                    api.close()
            except Exception as error:  # noqa: BLE001 (whatever it is, the next node may answer)
                errors.append(error)
        raise RuntimeError(f"no manager answers: {errors}")

    def leader(self) -> int:
        """Return the leader's number."""
        for item in self.nodes():
            if item.get("ManagerStatus", {}).get("Leader"):
                return int(item["Description"]["Hostname"].removeprefix("node"))
        raise RuntimeError("the swarm has no leader")

    def availability(self, node: int, wanted: str) -> None:
        """Set a node's availability: ``active`` or ``drain``. Tried on all managers for a minute."""
        deadline = time.monotonic() + 60
        while True:
            for asked in NODES:
                api = None
                try:
                    api = self._api(asked)
                    for item in api.nodes(filters={"name": f"node{node}"}):
                        spec = {**item["Spec"], "Availability": wanted}
                        api.update_node(item["ID"], item["Version"]["Index"], spec)
                        return
                except Exception:  # noqa: BLE001 (out of sequence, no leader, engine away: the next one, or again)
                    continue
                finally:
                    if api is not None:
                        api.close()
            if time.monotonic() > deadline:
                raise RuntimeError(f"node{node} could not be made {wanted}")
            time.sleep(1)

    def whole(self) -> bool:
        """Return whether all three are ready managers that take work, seen from each of them."""
        try:
            for node in NODES:
                api = self._api(node, 5)
                try:
                    items = api.nodes()
                finally:
                    api.close()
                if len(items) != len(NODES) or any(
                    item["Status"]["State"] != "ready"
                    or item["Spec"]["Availability"] != "active"
                    or item["ManagerStatus"]["Reachability"] != "reachable"
                    for item in items
                ):
                    return False
        except Exception:  # noqa: BLE001 (not whole, whatever it is)
            return False
        return True

    def answers(self, node: int) -> bool:
        """Return whether a node's manager answers what only a swarm with a leader can."""
        try:
            api = self._api(node, 3)
            try:
                api.nodes()
            finally:
                api.close()
        except Exception:  # noqa: BLE001 (it does not, whatever it is)
            return False
        return True

    def wait_whole(self, timeout: float) -> bool:
        """Wait until the lab is whole; False when the time is over."""
        deadline = time.monotonic() + timeout
        while not self.whole():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def services(self, label: str) -> list[dict[str, Any]]:
        """Return the services with a label, from whichever manager answers."""
        api = self._api(self._any())
        try:
            return list(api.services(filters={"label": [label]}))
        finally:
            api.close()

    def remove_all(self, label: str) -> None:
        """Remove services and configs with a label: hostile jobs have the same ids whenever their seed is used."""
        api = self._api(self._any())
        try:
            for found, remove in ((api.services, api.remove_service), (api.configs, api.remove_config)):
                for item in found(filters={"label": [label]}):
                    with contextlib.suppress(docker.errors.NotFound):
                        remove(item["ID"])
        finally:
            api.close()

    def _any(self) -> int:
        for node in NODES:
            try:
                api = self._api(node, 5)
                try:
                    api.nodes()
                    return node
                finally:
                    api.close()
            except Exception:  # noqa: BLE001 (the next one may answer)
                continue
        raise RuntimeError("no manager answers")
