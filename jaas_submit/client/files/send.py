"""Files that jobs get: their contents are sent before the jobs' records are written, each content once."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import IO, Final

from jaas_submit.batch_model.new_job import NewJob
from jaas_submit.client.session import Session
from jaas_submit.errors import SpecError, StoreUnavailable
from jaas_submit.model.bounds import shown
from jaas_submit.model.files.inputs import MOST_IN_CONFIGS, FileIn, in_configs, unsent
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.storage.store import INLINE_LIMIT

__all__ = ["send_files", "with_sent_files"]

_PIECE_BYTES: Final = 1024 * 1024


def with_sent_files(session: Session, jobs: Sequence[NewJob]) -> Sequence[NewJob]:
    """Return jobs whose files have been sent, and are kept as long as the jobs or their batches.

    Args:
        session: the connections.
        jobs: that are about to be enqueued.

    Raises:
        SpecError: a file cannot be read, is too large, or is not kept any more.
        StoreUnavailable: the store does not answer.
        LedgerUnavailable: Redis does not answer.
    """
    if not any(job.spec is not None and job.spec.files for job in jobs):
        return jobs
    users: dict[str, list[str]] = {}
    specs: dict[str, JobSpec] = {}
    for job in jobs:
        if job.spec is not None and job.spec.files:
            same = _as_key(job.spec)
            specs[same] = job.spec
            user = f"batch:{job.batch}" if job.batch else job.job_id
            if user not in users.setdefault(same, []):
                users[same].append(user)
    sent = {same: send_files(session, spec, *users[same]).files for same, spec in specs.items()}
    return [_with(job, sent) for job in jobs]


def _as_key(spec: JobSpec) -> str:
    return json.dumps({name: file.model_dump() for name, file in spec.files.items()})


def _with(job: NewJob, sent: Mapping[str, dict[str, FileIn]]) -> NewJob:
    if job.spec is None or not job.spec.files:
        return job
    return replace(job, spec=job.spec.model_copy(update={"files": sent[_as_key(job.spec)]}))


def send_files(session: Session, spec: JobSpec, *users: str) -> JobSpec:
    """Return a description whose files have been sent; see ``with_sent_files``.

    Args:
        session: the connections.
        spec: the description.
        users: ids of the jobs that have it, or ``batch:ID``.
    """
    if not spec.files:
        return spec
    given, files = spec.files, dict(spec.files)
    for name in unsent(given):
        files[name] = _described(name, given[name])
    sizes = {name: file.size or 0 for name, file in files.items()}
    _check_sizes(session, sizes, unsent(given))
    digests = list(dict.fromkeys(str(file.sha256) for file in files.values()))
    found = session.write(partial(session.ledger.sent_files.use, users, digests))
    there = dict(zip(digests, found, strict=True))
    small = in_configs(sizes)
    for name, file in files.items():
        digest = str(file.sha256)
        # What was small among others may be too much among these.
        if there[digest] is None or (there[digest] == "" and name not in small and session.store is not None):
            _send(session, name, given[name].path, file, here=name in small)
            there[digest] = "sent"
    changed = spec.model_copy(update={"files": files})
    return JobSpec.parse(changed.to_wire())  # its size counts again


def _described(name: str, file: FileIn) -> FileIn:
    """Return what a file is called when it has been sent: size, digest and permissions."""
    assert file.path is not None
    digest, size = hashlib.sha256(), 0
    with _opened(name, file.path) as content:
        mode = 0o555 if os.fstat(content.fileno()).st_mode & 0o100 else 0o444
        for piece in _pieces(content):
            digest.update(piece)
            size += len(piece)
    return FileIn(sha256=digest.hexdigest(), size=size, mode=mode if file.mode is None else file.mode)


def _check_sizes(session: Session, sizes: Mapping[str, int], new: Sequence[str]) -> None:
    """Refuse files that only a store could take, if there is none."""
    small = in_configs(sizes)
    large = [name for name in sizes if name not in small]
    if session.store is not None or not (large and new):
        return
    name = max(large, key=lambda one: sizes[one])
    total = sum(sizes.values())
    store = "set JAAS_STORE_URL (or Client(store=...)) here and for the workers"
    if not sizes[name]:
        said = f"is empty, and without a store no empty file can be handed over; leave it out, or {store}"
    else:
        said = (
            f"all files together have {total:,} bytes, more than the {MOST_IN_CONFIGS:,} that go without a store; "
            f"{store}, or leave some out"
        )
    raise SpecError(f"files.{shown(name)}: {said}", field=f"files.{name}")


def _send(session: Session, name: str, path: str | None, file: FileIn, *, here: bool) -> None:
    """Send a content: to the ledger if it is small, or there is no store, else to the store."""
    digest, size = str(file.sha256), file.size or 0
    content = _kept(session, name, digest) if path is None else _checked(name, path, file)
    if session.store is None or (here and size <= INLINE_LIMIT):
        session.write(partial(session.ledger.sent_files.put, digest, b"".join(content)))
        return
    stored = f"{digest}-{uuid.uuid4().hex[:8]}"
    session.ledger.sent_files.begin(stored)  # first: what a process that dies leaves in the store is removed
    session.store.write_shared(stored, content)
    if not session.ledger.sent_files.end(digest, stored):
        raise StoreUnavailable(f"files.{shown(name)}: writing it took longer than a day")


def _kept(session: Session, name: str, digest: str) -> list[bytes]:
    """Return a content that was sent before."""
    found = session.ledger.sent_files.find(digest)
    if found is None or found.data is None:
        said = "its content is not kept any more; give its path again"
        raise SpecError(f"files.{shown(name)}: {said}", field=f"files.{name}")
    return [found.data]


def _checked(name: str, path: str, file: FileIn) -> Iterator[bytes]:
    """Yield a file's content.

    Raises:
        SpecError: at its end, if it is not what it was when it was described.
    """
    digest = hashlib.sha256()
    with _opened(name, path) as content:
        for piece in _pieces(content):
            digest.update(piece)
            yield piece
    if digest.hexdigest() != file.sha256:
        raise SpecError(
            f"files.{shown(name)}: {shown(path, 200)} changes while it is sent; submit again", field="files"
        )


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(_PIECE_BYTES):
        yield piece


def _opened(name: str, path: str) -> IO[bytes]:
    """Open a plain file.

    Raises:
        SpecError: it is none, or cannot be read.
    """
    said = f"files.{shown(name)}: {shown(path, 200)}"
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for whoever writes it
            what = "is a folder; pack it into an archive" if os.path.isdir(path) else "is no file; check the path"
            raise SpecError(f"{said} {what}", field=f"files.{name}")
        return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError(f"{said}: {text}", field=f"files.{name}") from None
