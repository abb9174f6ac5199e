"""Which binds count as those of files in the local store: the names that a store gives, and no others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jaas_submit.errors import SpecError
from jaas_submit.model.job_spec import GATHER_FILE, INPUT_FILE
from jaas_submit.storage.store import Store
from jaas_worker.settings import Settings
from jaas_worker.socket_proxy.process import running
from jaas_worker.socket_proxy.store_binds import StoreBinds

SHARED = "a" * 64 + "-0123abcd"
FILE = "/run/jaas/files/a"


def test_what_a_store_writes_is_its_own(tmp_path: Path) -> None:
    store, binds = Store(f"file://{tmp_path}", "jaas.a-1", lambda: "secret"), StoreBinds(str(tmp_path), allowed=True)
    for name in ("input.json", "input-2.jsonl", "output-13.json"):
        path = store.path(store.write("0b0e3f4e-1", name, [b"1"]))
        assert Path(path).is_file()
        assert binds.is_own(path, INPUT_FILE)
        assert binds.is_own(path, GATHER_FILE)
        assert not binds.is_own(path, FILE)
        assert not StoreBinds(str(tmp_path)).is_own(path, INPUT_FILE), "it is not switched on"
    assert binds.is_own(store.shared_path(SHARED), FILE)


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/srv",
        "/srv/store",
        "/srv/store/",
        "/srv/store/jaas",
        "/srv/store/jaas/j",
        "/srv/store/jaas/.files",
        f"/srv/store/jaas/.files/{SHARED}/etc",
        f"/srv/store/jaas/.files/{SHARED}0",
        f"/srv/store/jaas/.files/{SHARED}\n",
        f"/srv/store/jaas/.files/{SHARED.upper()}",
        f"/srv/store/jaas/.files/../.files/{SHARED}",
        f"/srv/store/../.files/{SHARED}",
        f"/srv/store//jaas/.files/{SHARED}",
        f"/srv/store/./jaas/.files/{SHARED}",
        f"/srv/store/jaas/.files/{SHARED}/",
        f"/srv/store2/jaas/.files/{SHARED}",
        f"srv/store/jaas/.files/{SHARED}",
        "/srv/store/jaas/../input.json",
        "/srv/store/jaas/./input.json",
        "/srv/store/jaas/J/input.json",
        "/srv/store/jaas/j/link",
        "/srv/store/jaas/j/input.json\n",
        "/srv/store/jaas/j/input.json.d",
        "/srv/store/jaas/j/input-.jsonl",
        "/srv/store/jaas/j/k/input.json",
        "",
    ],
)
def test_other_names_are_judged_by_the_policy(source: str) -> None:
    binds = StoreBinds("/srv/store", allowed=True)
    assert not binds.is_own(source, INPUT_FILE)
    assert not binds.is_own(source, FILE)


def test_without_a_folder_nothing_is_in_it() -> None:
    assert not StoreBinds("", allowed=True).is_own("/jaas/j/input.json", INPUT_FILE)


@pytest.mark.parametrize("url", ["", "s3://bucket/jaas"])
def test_the_switch_needs_a_store_that_is_a_folder(url: str, tmp_path: Path) -> None:
    async def serve() -> None:
        listen = f"unix://{tmp_path}/proxy.sock"
        async with running(Settings(store_url=url), "unix:///none.sock", listen, 0o600, store_binds=True):
            pass

    with pytest.raises(SpecError, match=r"^--store-binds: JAAS_STORE_URL names no folder; "):
        asyncio.run(serve())
