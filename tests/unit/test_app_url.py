"""The worker's app shows no more of the Redis URL than a producer does, and accepts no other broker."""

from __future__ import annotations

import json

import kombu.utils.json
import pytest

from jaas_submit import SpecError
from jaas_worker.app import create_app
from jaas_worker.settings import Settings
from tests.unit.connection.test_url import FULL, WRONG


@pytest.mark.parametrize(("url", "says"), WRONG)
def test_what_is_wrong_is_named_without_what_may_be_a_password(url: str, says: str) -> None:
    with pytest.raises(SpecError) as raised:
        create_app(Settings(redis_url=url))
    assert str(raised.value).startswith("Redis URL: ")
    assert says in str(raised.value)
    assert "secret" not in str(raised.value)


def test_passwords_are_shown_nowhere() -> None:
    app = create_app(Settings(redis_url=FULL))
    shown = [repr(Settings(redis_url=FULL))]
    with app.connection_for_read() as connection:
        shown.append(kombu.utils.json.dumps(connection.info()["transport_options"]))  # as `celery inspect stats` does
    shown.append(json.dumps(app.conf.table(), default=repr))  # as `celery inspect conf` does
    for text in shown:
        for password in ("p@ss", "p%40ss", "s&cret", "s%26cret"):
            assert password not in text


@pytest.mark.parametrize(
    ("url", "kept"), [(FULL, "sentinel://ann:p%40ss%2F@s1:26379/3"), ("redis://h:1/2", "redis://h:1/2")]
)
def test_the_broker_is_the_one_of_the_url_whatever_celerys_own_variable_says(
    monkeypatch: pytest.MonkeyPatch, url: str, kept: str
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    app = create_app(Settings(redis_url=url))
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert connection.as_uri(include_password=True).partition("://")[2] == kept.partition("://")[2]
