"""The examples, as a reader would run them, on a real swarm."""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import docker
import pytest

from jaas_submit import Client, JobState
from tests.support.jobs import docker_cli
from tests.support.wait import eventually
from tests.support.worker import Installation, WorkerProcess, clean_env

pytestmark = [
    pytest.mark.engine,
    pytest.mark.redis,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("worker", "no_service_left"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
CORPUS = Path("/usr/share/common-licenses")
"""Texts of the Debian package base-files: licences, some 300 KB."""

PAGES = int(os.environ.get("JAAS_TEST_PAGES", "24"))
"""How many pages are crawled; a container with Python takes 2 cores a third of a second to start."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def worker(jaas: Installation, folder: Path) -> WorkerProcess:
    # Without asking a registry that is not there.
    return jaas.worker(store_url=f"file://{folder}", resolve_images=False, policy="baseline").start()


class Runner:
    """Runs an example in a process of its own, with the programs' defaults for queue and prefix."""

    def __init__(self, jaas: Installation, folder: Path) -> None:
        self.jaas = jaas
        self.folder = folder

    def __call__(self, name: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        # The examples are for installations with the usual names; here they get this test's.
        start = (
            "import functools, runpy, sys, jaas_submit; "
            f"jaas_submit.Client = functools.partial(jaas_submit.Client, queue={self.jaas.queue!r}, "
            f"prefix={self.jaas.prefix!r}); runpy.run_path(sys.argv[1], run_name='__main__')"
        )
        code = f"import sys; sys.argv = ['-c', *sys.argv[1:]]; {start}".replace("sys.argv[1]", "sys.argv.pop(1)")
        return subprocess.run(
            [sys.executable, "-c", code, str(EXAMPLES / name), *words],
            env=clean_env(JAAS_REDIS_URL=self.jaas.redis_url, JAAS_STORE_URL=f"file://{self.folder}", COLUMNS="200"),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )


@pytest.fixture
def example(jaas: Installation, folder: Path) -> Runner:
    return Runner(jaas, folder)


def test_wordcount_counts_what_one_process_counts(example: Runner, client: Client) -> None:
    """64 maps and a tree of reduces; the counts are too large for Redis and go through the store."""
    files = sorted(path for path in CORPUS.iterdir() if path.is_file())
    done = example("wordcount.py", "--json", *map(str, files))
    assert done.returncode == 0, done.stderr
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in files).lower()
    assert json.loads(done.stdout) == collections.Counter(re.findall(r"\w+", text))
    assert done.stderr.endswith("9 reduces on 2 levels\n")
    # A reduce starts once: it has one attempt.
    reduces = [record for record in client.history(limit=100) if record.spec and record.spec.gather]
    assert [len(record.attempts) for record in reduces] == [1] * 9


RATES = {"A": "31.505", "B": "24.75"}
STAFF = [("Ada", "A", "160"), ("Bob", "B", "37.5"), ("Cyd", "C", "12.25"), ("Dé, the 2nd", "A", "0.33")]


def test_payroll_is_right_to_the_cent(example: Runner, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "staff.csv"
    rows = "".join(f'"{name}",{grade},{hours}\n' for name, grade, hours in STAFF)
    file.write_text("employee,grade,hours\n" + rows, encoding="utf-8")

    def total(rates: dict[str, str]) -> Decimal:
        pays = (Decimal(hours) * Decimal(rates[grade]) for _, grade, hours in STAFF if grade in rates)
        return sum((pay.quantize(Decimal("0.01"), ROUND_HALF_UP) for pay in pays), Decimal(0))

    first = example("payroll.py", str(file), "--rates", json.dumps(RATES))
    assert first.returncode == 1
    assert "failed: Cyd: there is no rate for grade C\n" in first.stderr
    assert first.stdout.splitlines()[-1].split() == ["total", str(total(RATES))]
    # A second run of the same month pays nobody twice.
    jobs = client.ledger.queries.counts()
    assert example("payroll.py", str(file), "--rates", json.dumps(RATES)).stdout == first.stdout
    assert client.ledger.queries.counts() == jobs
    (batch,) = [record for record in client.batches() if record.name == "payroll 2026-11"]
    rates = {**RATES, "C": "19.10"}
    second = example("payroll.py", "--retry", batch.id, "--rates", json.dumps(rates))
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1].split() == ["total", str(total(rates))]
    assert total(rates) == Decimal("6213.31")


@pytest.fixture
def site(jaas: Installation, _engine: str, docker_api: docker.APIClient) -> Iterator[tuple[str, str]]:
    """A web site on a network of its own: name of the network, address of the site."""
    network, name = f"{jaas.prefix}-net", f"{jaas.prefix}-pages"
    docker_cli(_engine, "network", "create", "--driver", "overlay", "--attachable", network)
    # dnsrr: a virtual IP needs IPVS in the kernel. KILL: httpd has nothing to tidy up.
    options = ["--endpoint-mode", "dnsrr", "--no-resolve-image", "--stop-signal", "KILL", "--network", network]
    docker_cli(_engine, "service", "create", "--detach", "--name", name, *options, "jaas-pages:latest")
    running = {"name": [name], "desired-state": ["running"]}
    eventually(
        lambda: any(task["Status"]["State"] == "running" for task in docker_api.tasks(filters=running)), 60, "the site"
    )
    yield network, f"http://{name}"
    docker_cli(_engine, "service", "rm", name)

    def gone() -> bool:
        try:
            docker_api.remove_network(network)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError:  # something still uses it
            return False
        return True

    eventually(gone, 60, "the network to be removed")


def test_crawl_meets_its_quorum_with_two_broken_pages(
    example: Runner, client: Client, site: tuple[str, str], jaas: Installation
) -> None:
    network, address = site
    listed = docker_cli(jaas.engine_host, "run", "--rm", "jaas-pages:latest", "find", "/www", "-name", "*.html").split()
    pages = [f"{address}{path.removeprefix('/www')}" for path in sorted(listed)[: PAGES - 2]]
    assert len(pages) == PAGES - 2
    urls = [pages[0], f"{address}/there/is/no/such/page.html", *pages[1:], "ftp://no/web/page"]
    quorum = str(1 - 2 / PAGES)
    done = example("crawl.py", "--network", network, "--min-success", quorum, "-", stdin="\n".join(urls))
    assert done.returncode == 0, done.stderr
    (record,) = [record for record in client.batches() if record.name == "crawl"]
    assert record.state is JobState.SUCCEEDED
    assert record.counts == {JobState.SUCCEEDED: PAGES - 2, JobState.FAILED: 2}
    assert re.search(r"1 x exit code [24], 1 x exit code [24]", done.stderr), done.stderr
    assert [failed.index for failed in client.batch(record.id).failed] == [1, PAGES - 1]
    counted = [result.output for result in client.batch(record.id).results(ordered=True) if result.ok]
    assert [one["url"] for one in counted] == pages
    assert all(one["internal"] > 0 for one in counted)


def settings_of(jaas: Installation, **more: str) -> dict[str, str]:
    """Return the environment of a script that calls jaas and docker."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return jaas.environment(PATH=path, DOCKER_HOST=jaas.engine_host, **more)


def called(settings: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], env=settings, capture_output=True, text=True, timeout=100, check=False
    )


def test_a_backup_is_tried_and_restored(jaas: Installation, folder: Path) -> None:
    volume, copy = f"jobs-{jaas.prefix}-a", f"jobs-{jaas.prefix}-b"
    mounted = ("run", "--rm", "--volume", f"{volume}:/a", "--volume", f"{copy}:/b", "jaas-test:latest", "sh", "-ec")
    fill = "mkdir /a/deep; echo one >/a/deep/file; head -c 3000000 /dev/urandom >/a/large; echo two >'/a/a name'"
    docker_cli(jaas.engine_host, *mounted, fill)
    settings = settings_of(jaas, IMAGE="jaas-test:latest", store_url=f"file://{folder}")
    try:
        first = called(settings, EXAMPLES / "backup" / "nightly", volume)
        assert first.returncode == 0, first.stderr
        again = called(settings, EXAMPLES / "backup" / "nightly", volume)
        assert (again.returncode, again.stdout) == (0, first.stdout), "a day has one backup"
        done = called(settings, EXAMPLES / "backup" / "restore", first.stdout.strip(), copy)
        assert done.returncode == 0, done.stderr
        list_all = (
            "for v in a b; do cd /$v; find . -type f -exec sha256sum {} + | sort | sha256sum; done | uniq | wc -l"
        )
        assert docker_cli(jaas.engine_host, *mounted, f"ls '/b/a name'; {list_all}").split() == ["/b/a", "name", "1"]
    finally:
        eventually(lambda: not jaas.services(), 60)
        docker_cli(jaas.engine_host, "volume", "rm", volume, copy)


def test_a_function_is_called_through_the_door(jaas: Installation) -> None:
    words = [sys.executable, str(EXAMPLES / "function" / "door.py"), "--port", "0"]
    functions = str(EXAMPLES / "function" / "functions.json")
    with subprocess.Popen([*words, functions], env=jaas.environment(), stdout=subprocess.PIPE, text=True) as door:
        assert door.stdout is not None
        try:
            address = door.stdout.readline().strip()

            def call(path: str, body: str | None = None, **headers: str) -> tuple[int, Any]:
                data = None if body is None else body.encode()
                request = urllib.request.Request(f"{address}/{path}", data, headers)
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        return answer.status, json.load(answer)
                except urllib.error.HTTPError as error:
                    return error.code, json.load(error)

            key = {"Idempotency-Key": "one"}
            assert call("sorted", '["b", "a"]', **key) == (200, ["a", "b"])
            assert call("sorted", '["other"]', **key) == (200, ["a", "b"])
            status, told = call("sorted", "7")
            assert (status, call(f"jobs/{told['job']}")) == (500, (500, told))
            assert [call("sorted", "{")[0], call("no", "1")[0], call("jobs/no")[0]] == [400, 404, 404]
        finally:
            door.kill()


def test_a_stack_is_updated_only_if_its_migration_has_succeeded(
    jaas: Installation, client: Client, tmp_path: Path
) -> None:
    """The workers have the default policy: service, secret and network are open to jobs."""
    stack, folder = f"{jaas.prefix}-shop", EXAMPLES / "migration"
    images = {number: f"{stack}:{number}" for number in (1, 2, 3)}
    password = tmp_path / "password"
    password.write_text("correct horse battery")
    settings = settings_of(jaas, STACK=stack, PASSWORD_FILE=str(password), SHOP=images[1])

    def runs() -> str:
        return docker_cli(
            jaas.engine_host,
            "service",
            "inspect",
            "--format",
            "{{.Spec.TaskTemplate.ContainerSpec.Image}}",
            f"{stack}_api",
        ).strip()

    for number, image in images.items():
        docker_cli(jaas.engine_host, "build", "--build-arg", f"SHOP_VERSION={number}", "--tag", image, str(folder))
    try:
        made = called(
            settings, "docker", "stack", "deploy", "--resolve-image", "never", "-c", str(folder / "stack.yml"), stack
        )
        assert made.returncode == 0, made.stderr
        done = called(settings, folder / "update", images[2])
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("migration 1-items.sql\nmigration 2-stock.sql\n"), done.stdout
        assert runs() == images[2]
        failed = called(settings, folder / "update", images[3])
        assert (failed.returncode, failed.stdout) == (3, "")
        assert 'relation "item" does not exist' in failed.stderr
        assert runs() == images[2]
        record = client.history(limit=1)[0]
        assert record.spec is not None
        assert (record.spec.image, record.spec.env) == (images[3], {"LEVEL": "7"})
        assert [one.source for one in record.spec.secrets] == [f"{stack}_db-password"]
    finally:
        docker_cli(jaas.engine_host, "stack", "rm", stack)
        listed = ("network", "ls", "--quiet", "--filter", f"name={stack}_")
        eventually(lambda: not docker_cli(jaas.engine_host, *listed), 60, "the network to be removed")
        docker_cli(jaas.engine_host, "image", "rm", "--force", *images.values())
