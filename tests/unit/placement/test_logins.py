"""A login goes to its own host only; one that is not there is named."""

from __future__ import annotations

import pytest

from jaas_submit.errors import ImageRefused
from jaas_submit.placement.logins import ANY_HOST, host_of, image_host, login_for, why_no_login

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


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("alpine", "docker.io"),
        ("team/app:1", "docker.io"),
        ("docker.io/team/app", "docker.io"),
        ("index.docker.io/team/app", "docker.io"),
        ("a.example/app@sha256:1", "a.example"),
        ("b.example:5000/team/app", "b.example:5000"),
        ("localhost/app", "localhost"),
        ("b:5000", "docker.io"),
    ],
)
def test_where_an_image_comes_from(image: str, host: str) -> None:
    assert image_host(image) == host


@pytest.mark.parametrize(
    ("workers", "why"),
    [
        ([], "registry: cannot be checked: no worker answers"),
        ([["a.example"]], "registry: this worker has no login team for b.example; it has a.example"),
        ([["a.example"], []], "registry: this worker has no login team for b.example; it has none"),
        ([["a.example"], ["b.example/team"]], ""),
        ([[ANY_HOST]], "registry: this worker has no login team for b.example; it has b.example"),
    ],
)
def test_a_login_that_no_worker_has(workers: list[list[str]], why: str) -> None:
    assert why_no_login("team", "b.example/app", workers) == why


def test_a_store_of_logins_may_have_one_for_the_images_host() -> None:
    assert why_no_login("b.example", "b.example/app", [[ANY_HOST]]) == ""
    assert "and the image is from" in why_no_login("a.example", "b.example/app", [["a.example", ANY_HOST]])
