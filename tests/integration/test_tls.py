"""A Redis that speaks TLS only: ledger, messages and results, in every way in which people write its URL."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jaas_submit import Client, JobSpec
from jaas_submit.errors import LedgerUnavailable
from jaas_worker.app import create_app
from jaas_worker.settings import Settings
from tests.support.real import unavailable
from tests.support.redis_server import OwnRedis

pytestmark = pytest.mark.redis


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
    if not shutil.which("openssl"):
        unavailable("there is no openssl")
    made, key = tmp_path / "redis.crt", tmp_path / "redis.key"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split(), "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@pytest.fixture
def place(certificate: tuple[Path, Path], own_redis: Callable[..., OwnRedis]) -> str:
    """HOST:PORT of a Redis with this certificate."""
    made, key = map(str, certificate)
    more = {"tls-cert-file": made, "tls-key-file": key, "tls-ca-cert-file": made, "tls-auth-clients": "no"}
    server = own_redis(**more)  # its plain port is what tells that it is up
    port = server.tls_port()
    return f"127.0.0.1:{port}"


def use(url: str, prefix: str) -> None:
    """Submit a job, and look at Celery's results as producer and as worker."""
    with Client(url, prefix=prefix, queue=prefix) as client:
        job = client.submit(JobSpec(image="alpine"))
        assert client.ledger.queries.queue_length([prefix]) == 1
        assert client.app.AsyncResult(job.id).state == "PENDING"
    app = create_app(Settings(redis_url=url, prefix=prefix, queue=prefix))
    app.backend.store_result(job.id, {"exit_code": 0}, "SUCCESS")
    assert app.AsyncResult(job.id).state == "SUCCESS"
    app.close()


@pytest.mark.parametrize("query", ["?ssl_cert_reqs=CERT_NONE", "?ssl_cert_reqs=none"])
def test_without_a_look_at_the_certificate(place: str, query: str, prefix: str) -> None:
    use(f"rediss://{place}/0{query}", prefix)


def test_with_the_certificate_of_who_signed_it(place: str, certificate: tuple[Path, Path], prefix: str) -> None:
    use(f"rediss://{place}/0?ssl_ca_certs={certificate[0]}", prefix)


@pytest.mark.parametrize("query", ["", "?ssl_cert_reqs=CERT_REQUIRED"])
def test_a_certificate_that_nobody_has_signed_is_refused(place: str, query: str, prefix: str) -> None:
    url = f"rediss://{place}/0{query}"
    with Client(url, prefix=prefix) as client, pytest.raises(LedgerUnavailable, match="certif"):
        client.submit(JobSpec(image="alpine"))
