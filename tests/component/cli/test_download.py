"""`jaas download` and `handle.download`: the files of a job, from the store into a folder."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from jaas_submit import (
    AsyncClient,
    Client,
    JaasError,
    JobNotEnded,
    JobSpec,
    LogStatus,
    OutputFile,
    OutputFiles,
    SpecError,
)
from jaas_submit.storage.store import Store
from tests.support.stage import Stage, ended

SPEC = JobSpec(image="a", outputs=["/out"])


class Shelf:
    """Jobs that have handed out files."""

    def __init__(self, stage: Stage, folder: Path, url: str) -> None:
        self.stage = stage
        self.url = f"file://{folder}"
        self.redis_url = url
        stage.environ["JAAS_STORE_URL"] = self.url
        self._store = Store(self.url, stage.ledger.prefix, lambda: "s")

    def job(self, contents: Mapping[str, bytes], reason: str = "") -> str:
        """Return the id of a job with these files."""
        files = [
            OutputFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for name, data in contents.items()
        ]
        status = LogStatus.PARTIAL if reason else LogStatus.COMPLETE
        found = OutputFiles(status=status, reason=reason, files=tuple(files))
        job_id = self.stage.add(SPEC, ended().model_copy(update={"outputs": found}))
        for number, data in enumerate(contents.values()):
            self._store.write(job_id, f"file-1-{number}", [data])
        return job_id

    def copied(self, data: bytes) -> str:
        """Return the id of a job whose copy succeeded first, with one file."""
        copy_id, number = str(uuid.uuid4()), 3
        file = OutputFile(name="out/a", size=len(data), sha256=hashlib.sha256(data).hexdigest())
        found = OutputFiles(files=(file,), stored_by=copy_id, stored_attempt=1)
        self._store.write(copy_id, "file-1-0", [data])
        return self.stage.add(SPEC, ended(number=number).model_copy(update={"outputs": found}))

    def spoil(self, job_id: str) -> None:
        self._store.write(job_id, "file-1-0", [b"other"])

    def client(self) -> Client:
        return Client(self.redis_url, prefix=self.stage.ledger.prefix, store=self.url)


@pytest.fixture
def shelf(stage: Stage, tmp_path: Path, redis_url: str) -> Shelf:
    return Shelf(stage, tmp_path / "store", redis_url)


def test_files_get_the_paths_that_they_had_in_the_container(shelf: Shelf, tmp_path: Path) -> None:
    job_id = shelf.job({"out/a.pdf": b"a", "out/sub/b": bytes(3_000_000)})
    to = tmp_path / "to"
    (to / "out").mkdir(parents=True)
    (to / "out/a.pdf").write_text("old")
    result = shelf.stage.jaas("download", job_id, "--to", str(to))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [str(to / "out/a.pdf"), str(to / "out/sub/b")]
    assert (to / "out/a.pdf").read_bytes() == b"a"
    assert (to / "out/sub/b").read_bytes() == bytes(3_000_000)
    assert sorted(path.name for path in to.rglob("*") if path.is_file()) == ["a.pdf", "b"], "nothing else is left"
    listed = shelf.stage.jaas("download", "--list", job_id).stdout.split()
    assert listed == ["1", hashlib.sha256(b"a").hexdigest(), "out/a.pdf", "3000000", listed[4], "out/sub/b"]


def test_asyncio_has_the_same(shelf: Shelf, tmp_path: Path) -> None:
    job_id = shelf.job({"out/a": b"a"})

    async def main() -> list[Path]:
        async with AsyncClient(shelf.redis_url, prefix=shelf.stage.ledger.prefix, store=shelf.url) as client:
            assert await client.download(job_id, tmp_path / "one") == [tmp_path / "one/out/a"]
            return await (await client.handle(job_id)).download(tmp_path / "two")

    assert asyncio.run(main()) == [tmp_path / "two/out/a"]


def test_the_files_of_a_copy_that_succeeded_first_are_the_jobs(shelf: Shelf, tmp_path: Path) -> None:
    job_id = shelf.copied(b"by the copy")
    with shelf.client() as client:
        assert client.download(job_id, tmp_path) == [tmp_path / "out/a"]
    assert (tmp_path / "out/a").read_bytes() == b"by the copy"


def test_what_is_missing_is_said_and_the_rest_is_fetched(shelf: Shelf, tmp_path: Path) -> None:
    job_id = shelf.job({"out/a": b"a"}, "nothing matches /out/*.csv")
    result = shelf.stage.jaas("download", job_id, "--to", str(tmp_path), "--json")
    assert result.exit_code == 125
    assert "files partial: nothing matches /out/*.csv" in result.stderr
    assert [file["name"] for file in json.loads(result.stdout)["files"]] == ["out/a"]
    assert (tmp_path / "out/a").exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//x", "x\ny", ""])
def test_a_record_with_a_name_that_leads_elsewhere_writes_nothing(shelf: Shelf, tmp_path: Path, name: str) -> None:
    to = tmp_path / "a/b/c"
    job_id = shelf.job({name: b"x"})
    with shelf.client() as client, pytest.raises(JaasError, match="is not written"):
        client.download(job_id, to)
    assert list(to.rglob("*")) == []


def test_a_link_that_was_there_is_not_followed(shelf: Shelf, tmp_path: Path) -> None:
    to, elsewhere = tmp_path / "to", tmp_path / "elsewhere"
    to.mkdir()
    elsewhere.mkdir()
    (to / "out").symlink_to(elsewhere)
    (to / "link").symlink_to(elsewhere / "file")
    with shelf.client() as client:
        with pytest.raises(JaasError, match="leads out of"):
            client.download(shelf.job({"out/a": b"x"}), to)
        client.download(shelf.job({"link": b"new"}), to)
    assert list(elsewhere.iterdir()) == []
    assert (to / "link").read_bytes() == b"new"


def test_other_contents_are_refused_and_what_was_there_stays(shelf: Shelf, tmp_path: Path) -> None:
    job_id = shelf.job({"a": b"right"})
    (tmp_path / "a").write_text("old")
    shelf.spoil(job_id)
    with shelf.client() as client, pytest.raises(JaasError, match="is not what the job handed out"):
        client.download(job_id, tmp_path)
    assert (tmp_path / "a").read_text() == "old"


def test_jobs_without_files_say_why(shelf: Shelf, stage: Stage) -> None:
    with shelf.client() as client:
        with pytest.raises(SpecError, match="was submitted without outputs"):
            client.download(stage.add(end=ended()))
        with pytest.raises(JobNotEnded):
            client.download(stage.add(SPEC))
        with pytest.raises(SpecError, match="has no attempt 7"):
            client.download(shelf.job({}), attempt=7)
        assert client.download(shelf.job({})) == []
    del stage.environ["JAAS_STORE_URL"]
    result = stage.jaas("download", shelf.job({"a": b"x"}))
    assert (result.exit_code, "set JAAS_STORE_URL" in result.stderr) == (2, True)
