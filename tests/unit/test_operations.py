"""docs/operations.md and deploy/monitoring say what the code does."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jaas_submit.model.causes import CLUSTER_CAUSES
from jaas_worker.telemetry.log_actions import Action
from jaas_worker.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
RULES = [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())


def first_cells() -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE))


def test_every_alert_says_what_to_do() -> None:
    assert {cell for cell in first_cells() if cell.startswith("Jaas")} == {rule["alert"] for rule in RULES}


def test_every_action_is_listed() -> None:
    assert {cell for cell in first_cells() if "." in cell} == {str(action) for action in Action}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(Jaas\w+)`", PAGE))))
def test_alerts_that_are_spoken_of_exist(name: str) -> None:
    assert name in {rule["alert"] for rule in RULES}


def test_the_alert_for_the_clusters_faults_counts_every_such_cause() -> None:
    (expression,) = (rule["expr"] for rule in RULES if rule["alert"] == "JaasClusterFailures")
    found = re.search(r'cause=~"([^"]+)"', expression)
    assert found
    assert set(found[1].split("|")) == {str(cause) for cause in CLUSTER_CAUSES}


def test_dashboard_panels_have_a_place_and_a_title_of_their_own() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len(set(titles)) == len(titles)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


def test_each_figure_is_shown_or_watched() -> None:
    """What nobody looks at need not be counted."""
    exposed = {metric.name for metric in Metrics().registry.collect() if metric.name.startswith("jaas_")}
    looked_at = (MONITORING / "alerts.yml").read_text() + json.dumps(DASHBOARD)
    assert {name for name in exposed if name not in looked_at} == set()


@pytest.mark.parametrize("extra", ["", "cli", "worker", "flower", "otel", "store", "signing"])
def test_what_the_images_install_has_an_exact_version(extra: str) -> None:
    """A package that the constraints do not name is whatever the day brings, and missing where there is no registry."""
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "docker" / "constraints.txt").read_text(), re.MULTILINE)
    names: set[str] = set()
    _add_needed(Requirement(f"jaas[{extra}]"), names)
    assert len(names) > 10
    assert names - {"jaas", *map(canonicalize_name, pinned)} == set()


def _add_needed(wanted: Requirement, names: set[str]) -> None:
    """Add the name of a package to others, and those of all that it needs with its extras."""
    names.add(canonicalize_name(wanted.name))
    for text in metadata.requires(wanted.name) or ():
        more = Requirement(text)
        extras = wanted.extras or {""}
        if more.marker is not None and not any(more.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if more.extras or canonicalize_name(more.name) not in names:
            _add_needed(more, names)
