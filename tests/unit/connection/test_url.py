"""The one Redis URL: what it may say, what is made of it, and what of it is shown."""

from __future__ import annotations

import pytest

from jaas_submit import Client, SpecError
from jaas_submit.connection import connect
from jaas_submit.connection.url import SentinelAddress, masked, sentinel_address, server_url

FULL = "sentinel://ann:p%40ss%2F@s1,s2:1,[::1]:2/3?master=m&sentinel_username=bob&sentinel_password=s%26cret&replicas=1"


def test_everything_that_it_may_say() -> None:
    assert sentinel_address(FULL) == SentinelAddress(
        hosts=(("s1", 26379), ("s2", 1), ("::1", 2)),
        master="m",
        db=3,
        username="ann",
        password="p@ss/",
        sentinel_username="bob",
        sentinel_password="s&cret",
        replicas=1,
    )
    assert sentinel_address("sentinel://s1?master=m") == SentinelAddress((("s1", 26379),), "m")


@pytest.mark.parametrize("url", ["redis://h", "redis://:p%2Fq@h", "redis://h/", "rediss://:p@h:1/2?ssl_cert_reqs=none"])
def test_a_single_server(url: str) -> None:
    assert sentinel_address(url) is None


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("redis://:p@h:1/2", "redis://:p@h:1/2"),
        ("rediss://h/0", "rediss://h/0?ssl_cert_reqs=required"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "rediss://h?ssl_cert_reqs=none"),
        ("rediss://h?ssl_ca_certs=/ca.pem", "rediss://h?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=required"),
    ],
)
def test_what_redis_py_kombu_and_celery_read_differently_is_written_so_that_all_read_the_same(
    given: str, read: str
) -> None:
    assert server_url(given) == read


WRONG = [
    ("h:6379", "must begin with redis://, rediss://, sentinel:// or sentinels://"),
    ("unix:///run/redis.sock", "must begin with"),  # Celery has no such transport
    ("redis://:secret@h/a", "what follows the / must be the number of a database, as in redis://"),
    ("redis://:secret@h/1/secret", "what follows the / must be"),
    ("rediss://:secret@h?db=3", "takes no parameters but those of TLS (ssl_...), and the database as in redis://"),
    ("redis://:secret@h/1?virtual_host=3", "takes no parameters but"),
    ("redis://h/1?password=secret", "takes no parameters but"),
    ("rediss://h?ssl_cert_reqs=secret", "ssl_cert_reqs must be required, optional or none (or CERT_REQUIRED, ...)"),
    ("rediss://h?ssl_secret=1", "the parameters of TLS are ssl_cert_reqs, ssl_ca_certs"),
    ("redis://:secret@h?ssl_cert_reqs=none", "need rediss:// in the place of redis://"),
    ("redis://h?secret@x", "write / as %2F, ? as %3F and # as %23"),
    ("redis://:a/secret@h/1", "write / as %2F"),
    ("redis://:a#secret@h/1", "write / as %2F"),
    ("redis://:secret@a:6379/5;redis://:secret@b:6379/5", "write one URL; where servers fail over"),
    ("redis://a;redis://b", "write one URL"),
    ("amqp://h", "must begin with"),
    ("sentinel://s1/0", "append ?master=NAME"),
    ("sentinel://s1/0?master=", "append ?master=NAME"),
    ("sentinel://s1;sentinel://s2?master=m", "with commas between Sentinels"),
    ("sentinel://s1,?master=m", "Sentinel 2 is not written as HOST or HOST:PORT"),
    ("sentinel://?master=m", "Sentinel 1 is not"),
    ("sentinel://s1:secret?master=m", "Sentinel 1 is not"),
    ("sentinel://s1:99999?master=m", "Sentinel 1 is not"),
    ("sentinel://s1/secret?master=m", "the number of a database"),
    (
        "sentinel://:a?secret@s1?master=m",
        "takes the parameters master, sentinel_username, sentinel_password, replicas",
    ),
    ("sentinel://s1?master=m&replicas=two", "replicas must be a number from 0 to 9"),
]
"""URLs, and what is said of each."""


@pytest.mark.parametrize(("url", "says"), WRONG)
def test_what_is_wrong_is_named_without_what_may_be_a_password(url: str, says: str) -> None:
    for make in (sentinel_address, connect, Client):
        with pytest.raises(SpecError) as raised:
            make(url)
        assert str(raised.value).startswith("Redis URL: ")
        assert says in str(raised.value)
        assert "secret" not in str(raised.value)


def test_passwords_are_shown_nowhere() -> None:
    for text in (masked(FULL), repr(Client(FULL)), repr(sentinel_address(FULL))):
        assert "p@ss" not in text
        assert "p%40ss" not in text
        assert "s&cret" not in text
        assert "s%26cret" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@h/0", "redis://***@h/0"),
        ("redis://h/0", "redis://h/0"),
        ("redis://p@ss:w@h/0", "redis://***@h/0"),
        ("rediss://h/0?ssl_password=pw&ssl_certfile=/c.pem", "rediss://h/0?ssl_password=***&ssl_certfile=/c.pem"),
        ("rediss://:x@h?SSL_Password=pw", "rediss://***@h?SSL_Password=***"),
        ("rediss://h?ssl_password=a@b", "rediss://***"),
        ("redis://:pa?x=y@h/0", "redis://***"),
        ("redis://h?password=pw", "redis://h?password=***"),
        ("s3://bucket/jaas?key=AKIA&secret=pw", "s3://bucket/jaas?key=***&secret=***"),
        ("redis://h?pw", "redis://h?***"),
        ("redis://h/0#pw", "redis://h/0"),
        ("pw@h", "***@h"),
        ("sentinel://a,b/0?master=m&replicas=1", "sentinel://a,b/0?master=m&replicas=1"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    ("url", "kept"), [(FULL, "sentinel://ann:p%40ss%2F@s1:26379/3"), ("redis://h:1/2", "redis://h:1/2")]
)
def test_the_broker_is_the_one_of_the_url_whatever_celerys_own_variable_says(
    monkeypatch: pytest.MonkeyPatch, url: str, kept: str
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    app = Client(url).app
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert connection.as_uri(include_password=True).partition("://")[2] == kept.partition("://")[2]


def test_sentinel_takes_the_parameters_of_tls_with_its_own_scheme() -> None:
    found = sentinel_address(
        "sentinels://:p@h:1/0?master=m&ssl_ca_certs=/ca&ssl_cert_reqs=CERT_REQUIRED&ssl_password=hush"
    )
    assert found is not None
    assert dict(found.tls or ()) == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca", "ssl_password": "hush"}
    assert "hush" not in repr(found)
    plain = sentinel_address("sentinel://h:1/0?master=m")
    assert plain is not None
    assert plain.tls is None
    for url, said in (
        ("sentinel://h/0?master=m&ssl_ca_certs=/ca", "need sentinels://"),
        ("sentinels://h/0?master=m&ssl_other=x", "the parameters of TLS are"),
        ("sentinels://h/0?master=m&ssl_cert_reqs=maybe", "ssl_cert_reqs must be"),
    ):
        with pytest.raises(SpecError, match=said):
            sentinel_address(url)
