"""Metrics, dashboard and alert rules against a real Prometheus that scrapes a real worker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jaas_submit import Client, JobSpec
from jaas_submit.model.retry_policy import Backoff, RetryPolicy
from tests.support.ports import free_port
from tests.support.real import unavailable
from tests.support.wait import eventually
from tests.support.worker import Installation

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
PROMETHEUS = shutil.which("prometheus")
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
EXPRESSIONS = {
    f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}


class Prometheus:
    """A Prometheus of this module alone."""

    def __init__(self, folder: Path, scrapes: int) -> None:
        self.port = free_port()
        folder.mkdir(parents=True)
        (folder / "prometheus.yml").write_text(
            f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{MONITORING}/alerts.yml"]
scrape_configs:
  - job_name: jaas
    static_configs: [{{targets: ["127.0.0.1:{scrapes}"]}}]
"""
        )
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(PROMETHEUS),
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def answer(self, expression: str) -> list[dict[str, Any]]:
        """Return what a query finds as soon as it finds something: a scrape may be late, and all series stale."""
        found: list[dict[str, Any]] = eventually(lambda: self.query(expression), 30, expression)
        return found

    def up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.query("jaas_redis_up == 1"))
        except OSError:
            return False


@pytest.fixture(scope="module")
def prometheus(jaas: Installation, tmp_path_factory: pytest.TempPathFactory, client: Client) -> Iterator[Prometheus]:
    """Prometheus with a few samples of a worker that ran jobs: good, bad, retried and refused ones."""
    if PROMETHEUS is None:
        unavailable("prometheus is not installed")
    port = free_port()
    jaas.worker(metrics_port=port, metrics_interval="0.5s").start()
    server = Prometheus(tmp_path_factory.mktemp("prometheus") / "p", port)
    try:
        eventually(server.up, 120, server.log.read_text)
        twice = RetryPolicy(max_attempts=2, backoff=Backoff(delay=0.1))
        specs = [
            JobSpec(image="jaas-test", command=["sleep", "0.3"]),
            JobSpec(image="jaas-test", command=["sh", "-c", "exit 3"], retry=twice),
            JobSpec(image="jaas-test", networks=["no-such-network"]),
        ]
        for handle in [client.submit(spec) for spec in specs]:
            handle.wait(60, check=False)
        ended = "sum(jaas_jobs_ended_total) == 3 and sum(rate(jaas_run_seconds_count[1m])) > 0"
        eventually(lambda: server.query(ended), 30, lambda: str(server.query("jaas_jobs_ended_total")))
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_each_panel_of_the_dashboard_shows_something(prometheus: Prometheus, title: str) -> None:
    assert prometheus.answer(EXPRESSIONS[title])


def test_each_alert_is_evaluated_without_error_and_none_fires(prometheus: Prometheus) -> None:
    (group,) = prometheus.get("rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in RULES]
    eventually(lambda: all(r["health"] == "ok" for r in prometheus.get("rules")["groups"][0]["rules"]), 20)
    assert [rule["name"] for rule in group["rules"] if rule["state"] == "firing"] == []


def test_each_series_that_rules_and_panels_name_is_there(prometheus: Prometheus) -> None:
    known = set(prometheus.get("label/__name__/values"))
    named = {name for text in [*EXPRESSIONS.values(), *(r["expr"] for r in RULES)] for name in _names(text)}
    assert named - known == set()


def _names(expression: str) -> list[str]:
    return re.findall(r"\b(?:jaas|process)_[a-z_]+", expression)


def test_what_ran_is_what_was_counted(prometheus: Prometheus) -> None:
    counted = {
        (item["metric"]["state"], item["metric"]["cause"]): float(item["value"][1])
        for item in prometheus.answer("jaas_jobs_ended_total > 0")
    }
    assert counted == {("SUCCEEDED", "exit"): 1, ("FAILED", "exit"): 1, ("FAILED", "launch"): 1}
    (retries,) = prometheus.answer("sum(jaas_retries_total)")
    assert float(retries["value"][1]) == 1
    (refused,) = prometheus.answer('jaas_engine_errors_total{operation="create", kind="refused"}')
    assert float(refused["value"][1]) == 1


def test_no_series_names_a_job(prometheus: Prometheus) -> None:
    labels = set(prometheus.get("labels"))
    assert not labels & {"job_id", "service", "image", "task_id"}


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    if shutil.which("promtool") is None:
        unavailable("promtool is not installed")
    for words in (
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts.test.yml"],
    ):
        done = subprocess.run(
            ["promtool", *words], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_says_how_bad_it_is_and_what_it_means() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"].endswith(".")
