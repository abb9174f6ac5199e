"""Values by reference: a folder, and a store that is no file system."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped] # it has no stubs

from jaas_submit import Client, SpecError
from jaas_submit.errors import JaasError, StoreUnavailable
from jaas_submit.ledger.maintenance import Maintenance
from jaas_submit.storage.store import INLINE_LIMIT, Store, is_reference

BATCH = "00000000-0000-0000-0000-000000000001"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/store", "p", lambda: "s")


def test_a_value_comes_back_and_goes_with_its_job(store: Store, tmp_path: Path) -> None:
    reference = store.write("j", "output-1.json", [b'{"a":', b" 1}"])
    assert reference == {"$ref": f"file://{tmp_path}/store/p/j/output-1.json", "bytes": 8, "sig": reference["sig"]}
    assert json.loads(json.dumps(reference)) == reference
    assert is_reference(reference)
    assert store.read(reference) == b'{"a": 1}'
    assert (tmp_path / "store/p/j/output-1.json").read_bytes() == b'{"a": 1}'
    store.write("other", "output-1.json", [b"1"])
    assert store.remove(["j", "never was"]) == 1
    with pytest.raises(JaasError, match="it is not there"):
        store.read(reference)
    assert [path.name for path in (tmp_path / "store/p").iterdir()] == ["other"]


def test_writing_again_replaces(store: Store) -> None:
    store.write("j", "x", [b"a long one"])
    reference = store.write("j", "x", [b"short"])
    assert (reference["bytes"], store.read(reference)) == (5, b"short")


@pytest.mark.parametrize(
    ("value", "kept"),
    [("x" * 10, False), ("x" * (INLINE_LIMIT - 2), False), ("x" * (INLINE_LIMIT - 1), True), ([0] * 30_000, True)],
)
def test_only_large_values_are_kept_there(store: Store, value: Any, kept: bool) -> None:
    stands_for = store.keep("j", "input.json", value)
    assert store.holds(stands_for) == kept
    assert (json.loads(store.read(stands_for)) if kept else stands_for) == value


@pytest.mark.parametrize(
    "url", ["", "/srv/jaas", "file://", "file:///", "file://host/srv", "file:///srv/../etc", "nope://x/y"]
)
def test_a_url_that_names_no_folder_is_refused(url: str) -> None:
    with pytest.raises(SpecError, match="JAAS_STORE_URL"):
        Store(url, "p", lambda: "s")


def test_only_references_into_the_own_store_are_followed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers print what they like: a reference must not make a worker or a producer read any other file."""
    secret = tmp_path / "secret"
    secret.write_text("1")
    base = f"file://{tmp_path}/store"
    for url in (
        f"file://{secret}",
        f"{base}/p/../../secret",
        f"{base}/p/./../../secret",
        f"{base}/other/j/output-1.json",
        f"{base}2/p/j",
        "http://169.254.169.254/p/j",
    ):
        signature = hmac.new(b"s", f"1 {url}".encode(), hashlib.sha256).hexdigest()
        assert not store.holds({"$ref": url, "bytes": 1, "sig": signature}), url
    good = store.write("j", "x", [b"1"])
    assert good["sig"] == hmac.new(b"s", f"1 {good['$ref']}".encode(), hashlib.sha256).hexdigest()
    assert store.holds(good)
    for value in (None, "text", [good], {**good, "more": 1}, {"$ref": good["$ref"]}, {"$ref": 1, "bytes": 1}):
        assert not store.holds(value), value
    monkeypatch.setattr(Maintenance, "secret", lambda _: "s")
    with Client("redis://unused", prefix="p", store=base) as client:
        assert client.fetch(good) == 1
        false = {"$ref": f"file://{secret}", "bytes": 1, "sig": good["sig"]}
        assert client.fetch(false) == false
        assert client.fetch("plain") == "plain"
    with Client("redis://unused", prefix="p", store="") as client:
        assert client.fetch(good) == good


def test_only_references_that_jaas_has_made_are_followed(store: Store, tmp_path: Path) -> None:
    """Another job's file lies in the same store, and its URL is no secret."""
    good = store.write("other", "output-1.json", [b"1"])
    url, size = good["$ref"], good["bytes"]
    bare = {"$ref": url, "bytes": size}
    for forged in (
        bare,
        {**bare, "sig": ""},
        {**bare, "sig": "0" * 64},
        {**bare, "sig": "\u00fc"},
        {**bare, "sig": None},
        {**good, "bytes": size + 1},
        {**good, "bytes": 10**5000},
        {**good, "bytes": str(size)},
        {**good, "$ref": url.replace("other", "third")},
        {**good, "$ref": url + "\ud800"},
        {**good, "sig": Store(store.url, "p", lambda: "another").write("other", "output-1.json", [b"1"])["sig"]},
    ):
        assert not store.holds(forged), forged
    assert Store(store.url, "p", lambda: "s").holds(good)


def test_with_another_secret_a_reference_is_a_value_like_any_other(tmp_path: Path) -> None:
    """A ledger that has lost its secret makes a new one."""
    secrets = ["first"]
    store = Store(f"file://{tmp_path}/store", "p", lambda: secrets[-1])
    before = store.write("j", "input.json", [b"1"])
    secrets.append("second")
    assert not store.holds(before)
    assert store.holds(store.write("j", "input.json", [b"1"]))


@pytest.mark.parametrize("job_id", ["", ".", "..", "../..", "/", "a/b", "{outside}", "\ud800"])
def test_what_is_no_job_s_id_removes_nothing(store: Store, tmp_path: Path, job_id: str) -> None:
    """The index of jobs may hold anything that somebody has written there."""
    (tmp_path / "outside").mkdir()
    store.write("j", "x", [b"1"])
    job_id = job_id.format(outside=tmp_path / "outside")
    assert store.remove([job_id, "j"]) == 1
    assert (tmp_path / "outside").exists()
    assert (tmp_path / "store/p").exists()
    with pytest.raises(SpecError, match="is no job id"):
        store.write(job_id, "x", [b"1"])


def deep() -> Any:
    value: Any = 1
    for _ in range(200_000):  # no Python's encoder follows so far
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [[float("nan")], ["\ud800"], [10**5000], [{1, 2}], deep()], ids=["NaN", "surrogate", "huge", "set", "deep"]
)
def test_a_value_that_is_no_json_is_refused(store: Store, value: Any) -> None:
    with pytest.raises(SpecError, match="input: cannot be written as JSON"):
        store.keep("j", "input.json", value)


def test_a_store_that_does_not_answer_is_a_temporary_error(store: Store) -> None:
    with (
        mock.patch.object(LocalFileSystem, "open", side_effect=OSError("no route to host")),
        pytest.raises(StoreUnavailable),
    ):
        store.write("j", "x", [b"1"])
