"""A login goes to its own host only; one that is not there is named."""

from __future__ import annotations

import pytest

from jaas_submit.errors import ImageRefused
from jaas_worker.swarm.logins import host_of, login_for

NAMES = ["a.example", "b.example:5000/team", "https://c.example/v2/", "https://index.docker.io/v1/", "team-x"]


@pytest.mark.parametrize(
    ("registry", "host", "expected"),
    [
        ("a.example", "a.example", "a.example"),
        ("team", "b.example:5000", "b.example:5000/team"),
        ("b.example:5000/team", "b.example:5000", "b.example:5000/team"),
        ("c.example", "c.example", "https://c.example/v2/"),
        ("docker.io", "docker.io", "https://index.docker.io/v1/"),
        ("https://index.docker.io/v1/", "docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_which_login_is_meant(registry: str, host: str, expected: str) -> None:
    assert login_for(registry, host, NAMES) == expected


@pytest.mark.parametrize(
    ("registry", "host", "said"),
    [
        ("a.example", "evil.example", "login a.example is for a.example, and the image is from evil.example"),
        ("b.example:5000/team", "evil.example", "is for b.example:5000, and the image is from evil.example"),
        ("b.example:5000/team", "b.example", "is for b.example:5000, and the image is from b.example"),
        ("c.example", "evil.example", "login c.example is for c.example"),
        ("team-x", "evil.example", "is called evil.example/NAME in config.json"),
        ("team", "a.example", "no login team for a.example; it has a.example, b.example:5000/team, "),
        ("nobody", "a.example", "no login nobody for a.example"),
    ],
)
def test_no_other_host_gets_it(registry: str, host: str, said: str) -> None:
    with pytest.raises(ImageRefused, match=r"^registry: ") as caught:
        login_for(registry, host, NAMES)
    assert said in str(caught.value)


def test_a_worker_without_logins_says_so() -> None:
    with pytest.raises(ImageRefused, match=r"it has none$"):
        login_for("a", "b.example", [])


def test_the_host_of_a_login() -> None:
    assert host_of("http://r.example:5000/x/y") == "r.example:5000"
