"""Files that producers send: each content once, kept as long as a job or batch needs it, and no longer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jaas_submit import Client, JobSpec, SpecError
from jaas_submit.connection.connection import as_text
from jaas_submit.errors import StoreUnavailable
from jaas_submit.ledger import Ledger, SentFile
from jaas_submit.model.files.inputs import MOST_IN_CONFIGS, FileIn
from jaas_submit.model.states import JobState
from jaas_submit.storage.store import Store
from jaas_worker.maintenance.sent_files import SentFiles
from jaas_worker.swarm.files.shared_configs import SharedConfigs, UnusedConfigs
from tests.support.fake_swarm import FakeSwarm
from tests.support.twins import TWINS, client_of

LABELS = {"jaas.ledger": "l"}
MANY_DAYS = 10 * 86400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "large").write_bytes(b"x" * (MOST_IN_CONFIGS + 1))
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.fixture
def store(folder: Path, ledger: Ledger) -> Store:
    return Store(f"file://{folder}/store", ledger.prefix, lambda: "s")


def stored(folder: Path, ledger: Ledger) -> list[Path]:
    return sorted((folder / "store" / ledger.prefix / ".files").glob("*"))


def sent_files(spec: JobSpec | None) -> dict[str, FileIn]:
    assert spec is not None
    return spec.files


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def let_time_pass(ledger: Ledger) -> None:
    """Make all that was registered older than a day."""
    for key in ledger.client.scan_iter(f"{ledger.prefix}:sent*"):
        if ledger.client.type(key) == b"zset":
            for member in ledger.client.zrange(key, 0, -1):
                ledger.client.zincrby(key, -MANY_DAYS, as_text(member))


@pytest.mark.parametrize("kind", TWINS)
def test_what_is_small_goes_into_the_ledger_and_stands_in_the_description(
    redis_url: str, ledger: Ledger, folder: Path, kind: str
) -> None:
    with client_of(kind, redis_url, prefix=ledger.prefix, queue=ledger.prefix) as client:
        handle = client.submit({"image": "a", "files": {"/b": str(folder / "run.sh")}}, files={"a": folder / "small"})
        assert sent_files(handle.record().spec) == {
            "/b": FileIn(sha256=digest(b"#!/bin/sh\n"), size=10, mode=0o555),
            "a": FileIn(sha256=digest(b"small"), size=5, mode=0o444),
        }
        assert ledger.sent_files.find(digest(b"small")) == SentFile(b"small")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("nowhere", "files.f: .*nowhere is no file; check the path"),
        ("", "files.f: .* is a folder; pack it into an archive"),
        ("large", r"files.f: all files together have 1,024,000 bytes, more than the 1,023,999 .*JAAS_STORE_URL"),
        ("empty", "files.f: is empty, and without a store .*JAAS_STORE_URL"),
        ("a\0b", "files.f: "),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_written(
    redis_url: str, ledger: Ledger, folder: Path, name: str, wrong: str
) -> None:
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, store="") as client:
        for submit in (client.submit, lambda spec: client.map(spec, [1, 2])):
            with pytest.raises(SpecError, match=wrong):
                submit(JobSpec(image="a", files={"f": f"{folder}/{name}"}))
    assert not list(ledger.client.scan_iter(f"{ledger.prefix}:*"))


def test_a_batch_sends_its_files_once_and_large_ones_go_into_the_store(
    redis_url: str, ledger: Ledger, folder: Path
) -> None:
    spec = JobSpec(image="a", files={"large": str(folder / "large"), "empty": str(folder / "empty")})
    where = f"file://{folder}/store"
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, store=where) as client:
        batch = client.map(spec, range(700))
        paths = stored(folder, ledger)
        assert sorted(path.stat().st_size for path in paths) == [0, MOST_IN_CONFIGS + 1]
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o555}
        assert len({str(sent_files(record.spec)) for record in batch.records()}) == 1
        assert ledger.client.zcard(f"{ledger.prefix}:sent:{digest(b'')}:users") == 1, "the batch, and not each job"
        client.submit(spec)
        assert stored(folder, ledger) == paths


def test_what_was_small_among_others_moves_to_the_store_when_it_is_too_much(
    redis_url: str, ledger: Ledger, folder: Path
) -> None:
    for number in range(2):
        (folder / f"half{number}").write_bytes(bytes([number]) * (MOST_IN_CONFIGS // 2 + 1))
    one, both = ({f"f{n}": str(folder / f"half{n}") for n in range(count)} for count in (1, 2))
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, store="") as client:
        first = client.submit({"image": "a", "files": one})
    assert not stored(folder, ledger)
    where = f"file://{folder}/store"
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, store=where) as client:
        record = client.submit({"image": "a", "files": both}).record()
        again = client.submit({"image": "a", "files": {"f9": str(folder / "half0"), "f0": str(folder / "half1")}})
    assert sent_files(first.record().spec)["f0"] == sent_files(again.record().spec)["f9"]
    for file in sent_files(record.spec).values():
        found = ledger.sent_files.find(str(file.sha256))
        assert found is not None
        assert found.data is None
        assert found.stored in {path.name for path in stored(folder, ledger)}


def test_files_are_forgotten_when_nobody_has_a_record_and_a_replay_keeps_them(
    redis_url: str, ledger: Ledger, folder: Path, store: Store
) -> None:
    duty = SentFiles(ledger, store)
    files = {"small": folder / "small", "large": folder / "large"}
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, store=store.url) as client:
        first = client.submit({"image": "a"}, files=files)
        duty.run_once()
        ledger.client.delete(f"{ledger.prefix}:job:{first.id}")
        let_time_pass(ledger)
        second = client.submit({"image": "a"}, files=files)
        ledger.submission.cancel(second.id, "test")
        third = client.replay(second.id)
        ledger.client.delete(f"{ledger.prefix}:job:{second.id}")
        let_time_pass(ledger)
        duty.run_once()
        assert ledger.sent_files.find(digest(b"small")) == SentFile(b"small")
        assert len(stored(folder, ledger)) == 1
        assert third.state is JobState.QUEUED
        ledger.submission.cancel(third.id, "test")
        spec = third.record().spec
        ledger.client.delete(f"{ledger.prefix}:job:{third.id}")
        let_time_pass(ledger)
        duty.run_once()
        assert ledger.sent_files.find(digest(b"small")) is None
        assert not stored(folder, ledger)
        assert not list(ledger.client.scan_iter(f"{ledger.prefix}:sent*"))
        assert spec is not None
        with pytest.raises(SpecError, match=r"files\.\w+: its content is not kept any more; give its path again"):
            client.submit(spec)


def test_what_a_dead_producer_leaves_in_the_store_is_removed(ledger: Ledger, folder: Path, store: Store) -> None:
    name = f"{digest(b'x')}-00000000"
    ledger.sent_files.begin(name)
    store.write_shared(name, [b"x"])
    duty = SentFiles(ledger, store)
    duty.run_once()
    assert stored(folder, ledger)
    let_time_pass(ledger)
    assert not ledger.sent_files.end(digest(b"x"), name), "too late"
    duty.run_once()
    assert not stored(folder, ledger)
    assert ledger.sent_files.left(ledger.now()) == []


def test_all_that_nobody_needs_is_forgotten_in_one_round_though_a_call_of_redis_is_short(
    ledger: Ledger, folder: Path, store: Store
) -> None:
    digests = [digest(bytes([number])) for number in range(250)]
    ledger.sent_files.use(["dead"], digests)
    for sha in digests:
        store.write_shared(f"{sha}-00000000", [b"x"])
        ledger.sent_files.begin(f"{sha}-00000000")
        assert ledger.sent_files.end(sha, f"{sha}-00000000")
    let_time_pass(ledger)
    assert SentFiles(ledger, store).run_once()
    assert not stored(folder, ledger)
    assert not list(ledger.client.scan_iter(f"{ledger.prefix}:sent*"))


def test_a_round_without_time_does_a_part_and_says_so(ledger: Ledger, folder: Path, store: Store) -> None:
    ledger.sent_files.use(["dead"], [f"{number}" for number in range(150)])
    for number in range(2):
        store.write_shared(f"{digest(b'x')}-0000000{number}", [b"x"])
        ledger.sent_files.begin(f"{digest(b'x')}-0000000{number}")
    let_time_pass(ledger)
    duty = SentFiles(ledger, store, round_time=0)
    seen = []
    while not duty.run_once():
        seen.append((ledger.client.zcard(f"{ledger.prefix}:sent_files"), len(stored(folder, ledger))))
    assert seen == [(50, 1), (0, 0)]


@pytest.mark.parametrize(("alive", "left"), [(False, 0), (True, 1)])
def test_users_without_a_record_do_not_pile_up(ledger: Ledger, alive: bool, left: int) -> None:
    sha, users = digest(b"x"), [f"dead{number}" for number in range(2500)]
    for first in range(0, len(users), 500):
        ledger.sent_files.use(users[first : first + 500], [sha])
    if alive:
        ledger.submission.create("zz", JobSpec(image="a"), "q")
        ledger.sent_files.use(["zz"], [sha])
    let_time_pass(ledger)
    assert SentFiles(ledger, None).run_once()
    assert ledger.client.zcard(f"{ledger.prefix}:sent:{sha}:users") == left
    assert ledger.client.exists(f"{ledger.prefix}:sent_files") == left


def test_a_file_that_cannot_be_removed_does_not_keep_the_others(
    ledger: Ledger, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{digest(b'x')}-0000000{number}" for number in range(3)]
    for name in names:
        store.write_shared(name, [b"x"])
        ledger.sent_files.begin(name)
    let_time_pass(ledger)
    remove = store.remove_shared

    def fail(name: str) -> None:
        if name == names[0]:
            raise StoreUnavailable("locked")
        remove(name)

    with monkeypatch.context() as patched:
        patched.setattr(store, "remove_shared", fail)
        assert SentFiles(ledger, store).run_once()
        assert [path.name for path in stored(folder, ledger)] == names[:1]
        assert "1 files stay in the store until a later round: locked" in caplog.text
        assert not ledger.sent_files.end(digest(b"x"), names[0]), "its producer is still too late"
        later = f"{digest(b'x')}-00000009"
        ledger.client.zadd(f"{ledger.prefix}:sent_left", {later: 1})
        assert ledger.sent_files.left(ledger.now()) == [later, names[0]], "it is the last by now"
    assert SentFiles(ledger, store).run_once()
    assert not stored(folder, ledger)


def test_a_store_that_is_away_is_asked_again_in_its_own_time(
    ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        ledger.sent_files.begin(f"{digest(b'x')}-0000000{number}")
    let_time_pass(ledger)

    def fail(_: str) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "remove_shared", fail)
    assert SentFiles(ledger, store, round_time=0).run_once(), "not at once"
    assert len(ledger.sent_files.left(ledger.now())) == 3


def test_a_producer_without_a_store_does_not_lose_what_another_one_has_stored(ledger: Ledger) -> None:
    sha, name = digest(b"x"), f"{digest(b'x')}-00000000"
    assert ledger.sent_files.use(["a"], [sha]) == [None]  # both are told to send it
    ledger.sent_files.begin(name)
    assert ledger.sent_files.end(sha, name)
    ledger.sent_files.put(sha, b"x")
    assert ledger.sent_files.find(sha) == SentFile(stored=name)
    assert not ledger.client.hexists(f"{ledger.prefix}:sent:{sha}", "data")


def test_of_two_that_store_the_same_content_the_first_counts(ledger: Ledger) -> None:
    sha = digest(b"x")
    names = [f"{sha}-0000000{number}" for number in range(2)]
    for name in names:
        ledger.sent_files.begin(name)
    assert all(ledger.sent_files.end(sha, name) for name in names)
    assert ledger.sent_files.find(sha) == SentFile(stored=names[0])
    assert ledger.sent_files.left(ledger.now()) == [names[1]]


def test_a_file_that_changes_while_it_is_sent_is_refused(
    redis_url: str, ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(redis_url, prefix=ledger.prefix, queue=ledger.prefix, store="") as client:
        use = ledger.sent_files.use

        def change(*args: list[str]) -> list[str | None]:
            (folder / "small").write_bytes(b"other")
            return use(*args)

        monkeypatch.setattr(client.ledger.sent_files, "use", change)
        with pytest.raises(SpecError, match="small changes while it is sent; submit again"):
            client.submit({"image": "a"}, files={"f": folder / "small"})


def test_configs_are_shared_within_an_hour_and_removed_when_it_is_long_over() -> None:
    engine = FakeSwarm()
    configs = SharedConfigs(engine, LABELS)
    first = configs.get("d", lambda: b"x", 7200)
    assert configs.get("d", lambda: b"", 10_799) == first
    assert SharedConfigs(engine, LABELS).get("d", lambda: b"x", 7200) == first
    assert SharedConfigs(engine, {"jaas.ledger": "other"}).get("d", lambda: b"x", 7200) != first
    later = configs.get("d", lambda: b"x", 10_800)
    assert later != first
    made = set(engine.config_files)
    duty = UnusedConfigs(engine, "l")
    assert duty.run_once(10_800 + 3599)
    assert set(engine.config_files) == made
    assert duty.run_once(10_800 + 3600)
    assert set(engine.config_files) == made - {first.name}


def test_configs_of_another_hour_are_not_kept_in_mind() -> None:
    configs = SharedConfigs(FakeSwarm(), LABELS)
    read: list[float] = []

    def content() -> bytes:
        read.append(now)
        return b"x"

    for now in (7200, 7201, 10_800, 10_801, 7202):
        for sha in ("d", "e"):
            configs.get(sha, content, now)
    assert read == [7200, 7200, 10_800, 10_800, 7202, 7202]


def test_a_name_from_redis_leads_nowhere_else(store: Store) -> None:
    for name in ("../x", "x", f"{'0' * 64}-../../x", ""):
        with pytest.raises(SpecError, match="is no name of a file in the store"):
            store.shared_path(name)
