"""The documentation says what the code does: states, causes, settings, snippets, links, and the production stack."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from jaas_submit.model.causes import CAUSES, Cause
from jaas_submit.model.states import TERMINAL, TRANSITIONS, JobState
from jaas_worker.failpoints import FAILPOINTS
from jaas_worker.settings import Settings
from tests.support.pages import DOCS, ROOT, rows

PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


# -- states and causes --------------------------------------------------------------------


def test_state_machine_lists_every_transition_and_no_other() -> None:
    listed = [(row[0], row[1]) for row in rows(DOCS / "state-machine.md", "from") if row[0] != "(new)"]
    allowed = {(str(state), str(target)) for state, targets in TRANSITIONS.items() for target in targets}
    assert len(listed) == len(set(listed)), "a transition is listed twice"
    assert set(listed) == allowed


def test_state_machine_names_the_function_of_each_transition() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for name in ("jaas_submit", "jaas_worker")
        for kind in ("*.py", "*.lua")
        for path in (ROOT / name).rglob(kind)
    )
    for row in rows(DOCS / "state-machine.md", "from"):
        for name in re.findall(r"`?(?:\w+\.)?(\w+)`", row[3]):
            if name not in {"py", "lua"}:
                assert re.search(rf"(def|function|local) {name}\b|\b{name} = function", sources), (row[:2], name)


def test_state_machine_names_terminal_states() -> None:
    text = (DOCS / "state-machine.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if ": terminal." in line)
    assert {word.strip("*, ") for word in line.partition(":")[0].split()} - {""} == {str(state) for state in TERMINAL}


def test_state_machine_lists_every_cause_and_no_other() -> None:
    listed = [row[0] for row in rows(DOCS / "state-machine.md", "cause")]
    assert sorted(listed) == sorted(str(cause) for cause in Cause)


def test_state_machine_tells_the_state_of_the_job_for_every_cause() -> None:
    states = {row[0]: row[2].rpartition(" ")[2] for row in rows(DOCS / "state-machine.md", "cause")}
    assert states == {str(cause): str(facts.state) for cause, facts in CAUSES.items()}


def test_retries_names_the_causes_that_are_the_clusters_fault_and_those_that_are_final() -> None:
    by_meaning = {row[1]: set(re.findall(r"(\w+)", row[0])) for row in rows(DOCS / "retries.md", "causes")}
    for meaning, chosen in (
        ("a fault of the cluster", {str(cause) for cause, facts in CAUSES.items() if facts.by_cluster}),
        ("final: no policy", {str(cause) for cause, facts in CAUSES.items() if facts.final}),
    ):
        assert [causes for text, causes in by_meaning.items() if text.startswith(meaning)] == [chosen]


def test_state_machine_tells_what_celery_shows_for_every_state() -> None:
    shown = [state for row in rows(DOCS / "state-machine.md", "job") for state in row[0].split(", ")]
    assert set(shown) == {str(state) for state in JobState}


def test_guarantees_name_every_failpoint_of_a_step() -> None:
    text = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+\.(?:before|after))`", text))
    assert named == set(FAILPOINTS)


# -- settings --------------------------------------------------------------------


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAAS_REDIS_URL", "JAAS_REDIS_URL_FILE", "CELERY_BROKER_URL", "JAAS_DOCKER_HOST", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"JAAS_{name.upper()}", raising=False)


def test_settings_are_all_documented_and_no_other() -> None:
    listed = [row[0] for row in rows(DOCS / "settings.md", "variable")]
    assert sorted(listed) == sorted(f"JAAS_{name.upper()}" for name in Settings.model_fields)


@pytest.mark.usefixtures("no_variables")
@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_settings_have_the_documented_default(name: str) -> None:
    cells = {row[0]: row for row in rows(DOCS / "settings.md", "variable")}[f"JAAS_{name.upper()}"]
    default = getattr(Settings(), name)
    assert getattr(Settings(**{name: cells[1]}), name) == default
    assert len(cells[2]) > 20, "says nothing"


# -- snippets and links --------------------------------------------------------------------


def snippets() -> list[Any]:
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        found += [pytest.param(block, id=f"{page_id(page)}-{n}") for n, block in enumerate(blocks, 1)]
    return found


@pytest.mark.parametrize("code", snippets())
def test_python_snippets_compile_and_import_what_is_there(code: str) -> None:
    compile(code, "snippet", "exec")
    for line in re.findall(r"^from jaas_\w+ import .*$", code, re.MULTILINE):
        exec(line, {})


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:jaas_submit|jaas_worker|scripts|examples|tests|docker)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


def test_what_contributing_names_is_there() -> None:
    """A name and the file that it says to be in: `Cause` ... in `jaas_submit/model/causes.py`."""
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    pairs = re.findall(r"`([A-Z]\w+)`[^`.]* in `(jaas_\w+/[\w/]+\.py)`", text)
    assert pairs
    for name, path in pairs:
        assert re.search(rf"^(class )?{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (name, path)


def test_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def _page_of_rooms() -> str:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    start = text.index("\n## Rooms\n")
    return text[start : text.index("\n## ", start + 1)]


def test_architecture_names_every_module_in_its_room() -> None:
    shown: dict[str, set[str]] = {}
    room: list[str] = []
    for line in _page_of_rooms().partition("\nEach room's docstring")[0].splitlines():
        if head := re.match(r"    (  |    )?(\w+)/ ", line):
            room = [*room[: len(head[1] or "") // 2], head[2]]
            shown["/".join(room)] = set()
        elif line.startswith(" " * 27) and room:
            shown["/".join(room)] |= set(line.split())
    there: dict[str, set[str]] = {}
    for package in ("jaas_submit", "jaas_worker"):
        for module in (ROOT / package).rglob("*.py"):
            modules = there.setdefault(str(module.parent.relative_to(ROOT)), set())
            modules |= {module.stem} - {"__init__"}
    assert shown == there
    assert {room: len(modules) for room, modules in there.items() if len(modules) > 14} == {}, "rooms that are too full"


def test_architecture_has_the_import_rules_that_are_checked() -> None:
    page = " ".join(_page_of_rooms().split())
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    shown = set()
    for rule in rules:
        container = rule["containers"][0] if rule["type"] == "layers" else ""
        if container and f" {container}: " in page:
            rooms = " | ".join(layer.replace(" | ", ", ") for layer in rule["layers"])
            assert f"{container}: {rooms}" in page
            shown.add(container)
    assert shown > {"jaas_submit", "jaas_worker"}


def test_no_module_and_no_function_is_too_long() -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for module in (path for package in ("jaas_submit", "jaas_worker") for path in (ROOT / package).rglob("*.py")):
        text = module.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, module
        for node in ast.walk(ast.parse(text)):
            assert not isinstance(node, functions) or (node.end_lineno or 0) - node.lineno < 60, (module, node.name)


# -- the production stack --------------------------------------------------------------------

VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def stack_file(name: str) -> dict[str, Any]:
    """Return a file as `docker stack deploy` reads it in an empty environment."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert all(default for _, default in VARIABLE.findall(text)), "a variable without a default"
    loaded: dict[str, Any] = yaml.safe_load(VARIABLE.sub(lambda match: match[2], text))
    return loaded


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    return stack_file("stack.yml")


def words(command: list[Any]) -> dict[str, str]:
    """Return a command's options and their values."""
    assert all(isinstance(word, str) for word in command), "YAML read a word as something else: quote it"
    return dict(zip(command[1::2], command[2::2], strict=True))


def test_stack_redis_keeps_jobs(stack: dict[str, Any]) -> None:
    redis = stack["services"]["redis"]
    options = words(redis["command"])
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    (volume,) = redis["volumes"]
    assert volume["type"] == "volume"
    assert volume["source"] in stack["volumes"]
    assert volume["target"] == options["--dir"]
    assert redis["deploy"]["replicas"] == 1
    assert redis["deploy"]["placement"]["constraints"], "its volume is on one node"
    assert redis["deploy"]["update_config"]["order"] == "stop-first", "two servers must not share a volume"
    assert "ports" not in redis


def test_stack_redis_may_use_more_memory_than_its_data(stack: dict[str, Any]) -> None:
    redis = stack["services"]["redis"]
    unit = {"mb": 2**20, "gb": 2**30, "m": 2**20, "g": 2**30}

    def size(text: str) -> int:
        match = re.fullmatch(r"(\d+)([a-z]+)", text.lower())
        assert match, text
        return int(match[1]) * unit[match[2]]

    limit = size(redis["deploy"]["resources"]["limits"]["memory"])
    assert limit >= 1.5 * size(words(redis["command"])["--maxmemory"])


def test_stack_worker_is_on_every_manager(stack: dict[str, Any]) -> None:
    worker = stack["services"]["worker"]
    assert worker["deploy"]["mode"] == "global"
    assert worker["deploy"]["placement"]["constraints"] == ["node.role == manager"]
    assert {"type": "bind", "source": "/var/run/docker.sock", "target": "/var/run/docker.sock"} in worker["volumes"]
    assert worker["environment"]["JAAS_REDIS_URL_FILE"] == "/run/secrets/jaas_worker_url"
    assert worker["deploy"]["update_config"]["parallelism"] == 1, "the others take the jobs over"


def test_stack_worker_variables_are_settings(stack: dict[str, Any]) -> None:
    names = {f"JAAS_{name.upper()}" for name in Settings.model_fields} | {"JAAS_REDIS_URL_FILE"}
    assert set(stack["services"]["worker"]["environment"]) <= names
    values = {
        name.removeprefix("JAAS_").lower(): value
        for name, value in stack["services"]["worker"]["environment"].items()
        if name != "JAAS_REDIS_URL_FILE"
    }
    Settings(redis_url="redis://redis", **values)


def test_stack_worker_has_time_to_hand_over(stack: dict[str, Any]) -> None:
    # Reconciler and tracker each may wait for one answer of the engine, one after the other.
    longest = 2 * Settings.model_fields["engine_timeout"].default
    assert int(stack["services"]["worker"]["stop_grace_period"].removesuffix("s")) > longest


def test_stack_flower_asks_for_a_password(stack: dict[str, Any]) -> None:
    flower = stack["services"]["flower"]
    assert "jaas_flower_auth" in flower["secrets"]
    (config,) = flower["configs"]
    assert config["target"] in (ROOT / "docker" / "flower.Dockerfile").read_text(encoding="utf-8")
    (port,) = flower["ports"]
    assert port["mode"] == "host"


@pytest.mark.parametrize("name", ["redis", "worker", "flower"])
def test_stack_service_is_complete(stack: dict[str, Any], name: str) -> None:
    service = stack["services"][name]
    assert service["deploy"]["endpoint_mode"] == "dnsrr"
    assert service["networks"] == (["control", "producers"] if name == "redis" else ["control"])
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["deploy"]["restart_policy"]["condition"] == "any"
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["stop_grace_period"]
    assert ":" in service["image"].rpartition("/")[2], "an image without a tag"
    for secret in service["secrets"]:
        assert secret in stack["secrets"]


def test_an_agent_is_where_no_worker_is_and_reaches_the_same(stack: dict[str, Any]) -> None:
    worker, listener = stack["services"]["worker"], stack["services"]["agent"]
    same = ("image", "user", "init", "read_only", "volumes", "networks", "logging")
    assert {name: listener[name] for name in same} == {name: worker[name] for name in same}
    assert listener["deploy"]["mode"] == "global"
    assert listener["deploy"]["placement"]["constraints"] == ["node.role == worker"]
    own = {"JAAS_REDIS_URL_FILE": "/run/secrets/jaas_agent_url"}
    assert listener["environment"].items() <= {**worker["environment"], **own}.items()
    assert listener["command"] == ["agent"]


def test_stack_only_the_network_of_producers_is_attachable_and_jobs_join_none(stack: dict[str, Any]) -> None:
    no_jobs = {"driver": "overlay", "labels": {"jaas.control": "true"}}
    assert stack["networks"] == {
        "control": {"name": "jaas-control", **no_jobs},
        "producers": {"name": "jaas", "attachable": True, **no_jobs},
    }


def test_stack_each_program_has_its_own_user(stack: dict[str, Any]) -> None:
    script = (ROOT / "deploy" / "secrets").read_text(encoding="utf-8")
    for name in ("worker", "agent", "flower"):
        service = stack["services"][name]
        assert service["environment"]["JAAS_REDIS_URL_FILE"] == f"/run/secrets/jaas_{name}_url"
        assert [one for one in service["secrets"] if one.endswith("_url")] == [f"jaas_{name}_url"]
    assert words(stack["services"]["redis"]["command"])["--aclfile"] == "/run/secrets/jaas_redis_users"
    for name, secret in stack["secrets"].items():
        assert secret == {"external": True, "name": f"{name}_1"}
        made = re.sub("_(worker|agent|flower)_url$", "_${user}_url", name)
        assert f'"{made}_$number"' in script


def test_stack_files_exist(stack: dict[str, Any]) -> None:
    for config in stack["configs"].values():
        assert (ROOT / config["file"]).is_file()


def flower_settings(monkeypatch: pytest.MonkeyPatch, secret: str) -> dict[str, Any]:
    """Read docker/flowerconfig.py as Flower does."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: secret)
    code = (ROOT / "docker" / "flowerconfig.py").read_bytes()
    namespace: dict[str, Any] = {}
    exec(compile(code, "flowerconfig.py", "exec"), namespace)
    return namespace


def test_flower_takes_its_users_from_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = flower_settings(monkeypatch, "admin:one\nguest:two\n")
    assert namespace["basic_auth"] == ["admin:one", "guest:two"]
    assert namespace["persistent"] is True


@pytest.mark.parametrize("secret", ["", "\n", "admin"])
def test_flower_does_not_start_without_a_password(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    with pytest.raises(SystemExit, match="user:password"):
        flower_settings(monkeypatch, secret)


def test_flower_does_not_start_with_a_password_that_it_cannot_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="ASCII"):
        flower_settings(monkeypatch, "admin:\u00fcber")


def test_the_proxy_for_flower_fits_the_stack(stack: dict[str, Any]) -> None:
    folder = ROOT / "deploy" / "flower-tls"
    more = yaml.safe_load((folder / "stack.yml").read_text(encoding="utf-8"))
    nginx = (folder / "nginx.conf").read_text(encoding="utf-8")
    proxy = more["services"]["flower-tls"]
    assert set(proxy["networks"]) <= set(stack["networks"])
    assert proxy["deploy"]["placement"] == stack["services"]["flower"]["deploy"]["placement"]
    assert {f"/run/secrets/{name}" for name in proxy["secrets"]} == set(re.findall(r"/run/secrets/\w+", nginx))
    assert set(proxy["secrets"]) == set(more["secrets"])
    assert f"listen {proxy['ports'][0]['target']} ssl;" in nginx
    assert f"flower:{stack['services']['flower']['ports'][0]['target']};" in nginx
    assert ROOT / more["configs"]["flower-tls"]["file"] == folder / "nginx.conf"
    assert more["services"]["flower"]["environment"] == {"FLOWER_XHEADERS": "true"}
    assert len((folder / "stack.yml").read_text(encoding="utf-8").splitlines()) < 60, "one screen"


def test_the_socket_proxy_fits_the_stack(stack: dict[str, Any]) -> None:
    more = stack_file("deploy/socket-proxy.yml")
    proxy = more["services"]["socket-proxy"]
    options = words(proxy["command"])
    folders = {one["source"]: one["target"] for one in proxy["volumes"]}
    assert options["--listen"] == f"unix://{folders['engine']}/engine.sock"
    text = (ROOT / "stack.yml").read_text(encoding="utf-8")
    for name in ("worker", "agent"):
        (socket, _) = stack["services"][name]["volumes"]
        assert more["services"][name] == {"environment": {"DOCKER_HOST": f"unix://{socket['target']}/engine.sock"}}
        assert proxy["image"] == stack["services"][name]["image"]
    assert (
        text.count("type: ${JAAS_DOCKER_MOUNT:-bind}\n        source: ${JAAS_DOCKER_SOCKET:-/var/run/docker.sock}") == 2
    )
    assert set(proxy["environment"].items()) <= set(stack["services"]["worker"]["environment"].items())
    assert set(proxy["networks"]) == set(more["networks"])


@pytest.mark.parametrize("name", ["worker", "flower"])
def test_images_are_multi_stage_with_a_base_that_can_be_named(name: str) -> None:
    lines = (ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8").splitlines()
    stages = ["FROM ${BUILD} AS packages", "FROM ${BUILD} AS build", "FROM ${BASE}"]
    assert [line for line in lines if line.startswith("FROM")] == stages
    (base,) = (line for line in lines if line.startswith("ARG BASE="))
    assert re.search(r":\d", base), "a base without a version"
    assert any(line.startswith("USER ") for line in lines)


@pytest.mark.parametrize("name", ["worker", "flower"])
def test_images_install_nothing_without_a_hash(name: str) -> None:
    text = (ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8")
    packages, build, _ = text.split("FROM $")[1:]
    (download,) = re.findall(r"^RUN \[.*?\]", packages, re.MULTILINE | re.DOTALL)
    assert '"--only-binary", ":all:"' in download, "the code of a package would run before anybody has looked"
    assert '"--require-hashes", "--requirement", "/src/constraints.txt"' in download
    assert '"--no-index", "--find-links", "/packages"' in build
    assert "PIP_" not in build, "pip's settings could name other packages"


def test_flower_image_does_not_run_as_root() -> None:
    assert "USER 65534:65534" in (ROOT / "docker" / "flower.Dockerfile").read_text(encoding="utf-8")
