"""What jaas adds to Flower, in a real Flower, and through the proxy of deploy/flower-tls (a real nginx)."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from jaas_submit.dashboard.guard import HEADERS
from tests.support.flower_process import Flower, basic
from tests.support.ports import free_port
from tests.support.real import required_env, unavailable
from tests.support.wait import eventually

pytestmark = pytest.mark.redis

LOGIN = "operator:open-sesame"
WRONG = "operator:wrong"
ROOT = Path(__file__).parents[3]
NGINX = ROOT / "deploy" / "flower-tls" / "nginx.conf"
PAGES = [
    *("/", "/workers", "/tasks", "/task/none", "/broker", "/api/workers", "/api/tasks", "/metrics", "/healthcheck"),
    *("/static/css/flower.css", "/logout", "/login", "/no-such-page"),
]
OPEN = {"/static/css/flower.css": 200, "/logout": 200, "/login": 404, "/no-such-page": 404}


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    more = {"FLOWER_BASIC_AUTH": LOGIN, "FLOWER_XHEADERS": "true"}
    made = Flower(required_env("JAAS_REDIS_URL"), tmp_path_factory.mktemp("flower"), **more)
    eventually(made.up, 120, made.log.read_text)
    yield made
    made.stop()


class Answer:
    """What a server said."""

    def __init__(self, connection: http.client.HTTPConnection, path: str, headers: dict[str, str], method: str) -> None:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        self.status, self.headers, self.text = answer.status, answer.headers, answer.read().decode()
        connection.close()


def ask(flower: Flower, path: str, login: str = "", client: str = "", method: str = "GET") -> Answer:
    """Ask Flower as its proxy would: the client's address is in X-Real-Ip."""
    headers = {"Authorization": basic(login)} if login else {}
    if client:
        headers["X-Real-Ip"] = client
    return Answer(http.client.HTTPConnection("127.0.0.1", flower.port, timeout=30), path, headers, method)


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_forbids_frames_and_guesses_of_its_type(flower: Flower, path: str) -> None:
    for login in ("", LOGIN):
        answer = ask(flower, path, login)
        assert {name: answer.headers.get_all(name) for name in HEADERS} == {n: [v] for n, v in HEADERS.items()}


@pytest.mark.parametrize("path", PAGES)
def test_what_needs_a_login(flower: Flower, path: str) -> None:
    assert ask(flower, path).status == OPEN.get(path, 401)
    if path not in {"/task/none", "/login", "/no-such-page", "/broker"}:
        assert ask(flower, path, LOGIN).status == 200


def test_wrong_passwords_make_their_address_wait(flower: Flower) -> None:
    mine, other = "192.0.2.1", "192.0.2.2"
    assert [ask(flower, "/tasks", WRONG, mine).status for _ in range(4)] == [401] * 4
    assert ask(flower, "/tasks", LOGIN, mine).status == 200
    while (answer := ask(flower, "/tasks", WRONG, mine)).status == 401:  # a pause of 1 s may be over by then
        pass
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.text.startswith("Too many wrong passwords from your address. Try again in ")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert ask(flower, "/tasks", LOGIN, other).status == 200
    assert ask(flower, "/tasks", "", mine).status == 401, "who gives no password tries none"
    log = flower.log.read_text()
    assert f"wrong password from {mine}" in log
    assert "wrong" not in log.replace("wrong password from", "")


@pytest.mark.parametrize(
    ("number", "path", "method"),
    [
        (3, "/api/workers", "GET"),
        (4, "/api/task/revoke/none", "POST"),
        (5, "/metrics", "GET"),
        (6, "/healthcheck", "GET"),
        (7, "/no-such-page", "GET"),
        (8, "/logout", "GET"),
        (9, "/tasks", "OPTIONS"),
    ],
)
def test_no_page_lets_passwords_be_tried_without_a_pause(flower: Flower, number: int, path: str, method: str) -> None:
    for _ in range(12):  # two or three pauses may be over by then
        last = ask(flower, path, WRONG, f"192.0.2.{number}", method)
        assert last.status in {401, 429}
    eventually(lambda: ask(flower, path, WRONG, f"192.0.2.{number}", method).status == 429, 30)


@pytest.mark.parametrize(
    "value", ["Basic", "Basic !", "Bearer x", basic("operator:\u00e9"), basic("operator"), "Basic /w=="]
)
def test_what_is_no_login_is_a_wrong_password(flower: Flower, value: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", flower.port, timeout=30)
    answer = Answer(
        connection, "/api/workers", {"Authorization": value, "X-Real-Ip": f"2001:db8:{len(value)}::1"}, "GET"
    )
    assert answer.status == 401


def test_metrics_and_health_check_can_be_open(redis_url: str, tmp_path: Path) -> None:
    more = {"FLOWER_BASIC_AUTH": LOGIN, "JAAS_FLOWER_OPEN_METRICS": "true", "FLOWER_URL_PREFIX": "flower"}
    made = Flower(redis_url, tmp_path, **more)
    try:
        prefixed = ("/flower/metrics", "/flower/healthcheck", "/flower/static/css/flower.css", "/flower/tasks")
        eventually(lambda: made.up("/flower/healthcheck"), 120, made.log.read_text)
        assert [made.get(path)[0] for path in prefixed] == [200, 200, 200, 401]
        assert made.get("/flower/tasks", LOGIN)[0] == 200
    finally:
        made.stop()


def test_a_setting_that_is_neither_true_nor_false_is_refused(redis_url: str, tmp_path: Path) -> None:
    made = Flower(redis_url, tmp_path, FLOWER_BASIC_AUTH=LOGIN, JAAS_FLOWER_OPEN_METRICS="perhaps")
    assert made.process.wait(120) != 0
    assert "jaas: JAAS_FLOWER_OPEN_METRICS must be true or false" in made.log.read_text()


def test_the_health_check_of_the_stack_needs_no_password(flower: Flower) -> None:
    service = yaml.safe_load((ROOT / "stack.yml").read_text())["services"]["flower"]
    kind, _, *words = service["healthcheck"]["test"]
    assert kind == "CMD"
    for port, healthy in ((flower.port, True), (free_port(), False)):
        command = [sys.executable, *(word.replace("5555", str(port)) for word in words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode == 0) is healthy, done.stderr


# -- through the proxy ------------------------------------------------------------------------------------------------


class Proxy(NamedTuple):
    """Where the proxy is, and whose certificate is believed."""

    port: int
    context: ssl.SSLContext

    def connect(self, client: str) -> http.client.HTTPSConnection:
        """Return a connection from an address of this machine."""
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, source_address=(client, 0), context=self.context
        )


@pytest.fixture(scope="module")
def proxy(flower: Flower, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """An nginx with the configuration of deploy/flower-tls, but for addresses and folders."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        unavailable("nginx is not installed")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    made, key = folder / "jaas_flower_certificate", folder / "jaas_flower_key"
    subprocess.run(["openssl", *words.split(), "-keyout", key, "-out", made], check=True, capture_output=True)
    text = NGINX.read_text()
    changes = {
        " /tmp/": f" {folder}/",  # first, because the folder is there, too
        "/run/secrets/": f"{folder}/",
        "listen 8443 ": f"listen 127.0.0.1:{port} ",
        "flower:5555": f"127.0.0.1:{flower.port}",
    }
    for theirs, ours in changes.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    (folder / "nginx.conf").write_text(text)
    command = [program, "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out)
    try:
        eventually(lambda: _listens(process, port, log), 30, log.read_text)
        yield Proxy(port, ssl.create_default_context(cafile=made))
    finally:
        process.terminate()
        process.wait(30)


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def through(proxy: Proxy, client: str, login: str, **headers: str) -> Answer:
    """Ask for the workers through the proxy, from an address of this machine."""
    return Answer(proxy.connect(client), "/api/workers", {"Authorization": basic(login), **headers}, "GET")


def test_the_proxy_speaks_tls_and_hands_every_address_on(proxy: Proxy) -> None:
    good = through(proxy, "127.0.0.1", LOGIN)
    assert (good.status, good.headers["X-Frame-Options"]) == (200, "DENY")
    assert good.headers["Strict-Transport-Security"] == "max-age=31536000"
    for number in range(12):  # that it names other addresses is no help
        forged = f"198.51.100.{number}"
        through(proxy, "127.0.0.7", WRONG, **{"X-Real-Ip": forged, "X-Forwarded-For": forged})
    eventually(lambda: through(proxy, "127.0.0.7", WRONG).status == 429, 30)
    assert through(proxy, "127.0.0.8", LOGIN).status == 200, "another client does not wait"


def test_a_change_from_another_site_is_refused(proxy: Proxy) -> None:
    for origin, status in ((f"https://127.0.0.1:{proxy.port}", 404), ("https://elsewhere.example", 403)):
        headers = {"Authorization": basic(LOGIN), "Origin": origin, "Content-Length": "0"}
        assert Answer(proxy.connect("127.0.0.1"), "/no-such-page", headers, "POST").status == status
