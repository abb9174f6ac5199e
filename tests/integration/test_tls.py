"""A Redis that speaks TLS only: ledger, messages and results, in every way in which people write its URL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaas_submit import AsyncClient, Client, JobSpec
from jaas_submit.connection import connect_async
from jaas_submit.errors import LedgerUnavailable
from jaas_worker.app import create_app
from jaas_worker.settings import Settings
from tests.support.redis_server import OwnRedis, TLSFiles, make_certificate
from tests.support.sentinel_group import Group
from tests.support.wait import eventually

pytestmark = pytest.mark.redis


@pytest.fixture
def certificate(tmp_path: Path) -> TLSFiles:
    """A certificate for 127.0.0.1 that nobody else has signed, and its key."""
    return make_certificate(tmp_path)


@pytest.fixture
def place(certificate: TLSFiles, own_redis: Callable[..., OwnRedis]) -> str:
    """HOST:PORT of a Redis with this certificate."""
    made, key = certificate
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
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        assert channel.client.ping()
    app.close()


@pytest.mark.parametrize("query", ["?ssl_cert_reqs=CERT_NONE", "?ssl_cert_reqs=none"])
def test_without_a_look_at_the_certificate(place: str, query: str, prefix: str) -> None:
    use(f"rediss://{place}/0{query}", prefix)


def test_with_the_certificate_of_who_signed_it(place: str, certificate: TLSFiles, prefix: str) -> None:
    use(f"rediss://{place}/0?ssl_ca_certs={certificate[0]}", prefix)


@pytest.mark.parametrize("query", ["", "?ssl_cert_reqs=CERT_REQUIRED"])
def test_a_certificate_that_nobody_has_signed_is_refused(place: str, query: str, prefix: str) -> None:
    url = f"rediss://{place}/0{query}"
    with Client(url, prefix=prefix) as client, pytest.raises(LedgerUnavailable, match="certif"):
        client.submit(JobSpec(image="alpine"))


def test_a_certificate_of_the_client_is_asked_for(certificate: TLSFiles, tmp_path: Path, prefix: str) -> None:
    server = OwnRedis(tmp_path / "redis")
    server.tls = certificate
    server.start()
    try:
        use(f"rediss://127.0.0.1:{server.port}/0?{certificate.query}", prefix)
        without = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={certificate.certificate}"
        with Client(without, prefix=prefix) as client, pytest.raises(LedgerUnavailable, match="certificate required"):
            client.submit(JobSpec(image="alpine"))
    finally:
        server.kill()


@pytest.mark.timeout(40)  # it was 47 s
def test_a_server_without_tls_is_named_at_once(own_redis: Callable[..., OwnRedis], prefix: str) -> None:
    url = f"rediss://127.0.0.1:{own_redis().port}/0"
    said = r"127\.0\.0\.1:\d+ speaks no TLS; write redis:// in the place of rediss://"
    with Client(url, prefix=prefix) as client, pytest.raises(LedgerUnavailable, match=said):
        client.submit(JobSpec(image="alpine"))

    async def wait() -> None:
        async with AsyncClient(url, prefix=prefix) as client:
            await client.submit(JobSpec(image="alpine"))

    with pytest.raises(LedgerUnavailable, match=said):
        asyncio.run(wait())


@pytest.mark.timeout(180)
def test_sentinel_and_its_servers_speak_tls(certificate: TLSFiles, tmp_path: Path, prefix: str) -> None:
    group = Group(tmp_path, sentinels=1, tls=certificate)
    try:
        use(group.url, prefix)

        async def waited() -> list[object]:
            client = connect_async(group.url)
            try:
                return list(await client.pubsub_channels())
            finally:
                await client.aclose()

        assert asyncio.run(waited()) == [b"__sentinel__:hello"]
        old, new = group.master, group.replica
        old.kill()
        eventually(lambda: group.promoted(new), 60, "the fail-over")
        eventually(lambda: _used(group.url, f"{prefix}-2"), 60, "the new master to be found")
        without = group.url.replace(f"&{certificate.query}", f"&ssl_ca_certs={certificate.certificate}")
        with Client(without, prefix=prefix) as client, pytest.raises(LedgerUnavailable):
            client.submit(JobSpec(image="alpine"))
    finally:
        group.close()


def _used(url: str, prefix: str) -> bool:
    try:
        use(url, prefix)
    except LedgerUnavailable:
        return False
    return True
