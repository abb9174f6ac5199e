"""The files that a job handed out, from the store into a folder."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from jaas_submit.client.session import Session
from jaas_submit.errors import JaasError, JobNotEnded, SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.model.files.listing import OutputFile, OutputFiles, stored_name
from jaas_submit.model.files.patterns import name_problem
from jaas_submit.model.logs import LogStatus

__all__ = ["download", "output_files"]

_COPY_BYTES: Final = 1024 * 1024


def output_files(session: Session, job_id: str, attempt: int | None) -> tuple[int, OutputFiles]:
    """Return the files of an attempt, and its number.

    Args:
        session: the connections.
        job_id: the job's id.
        attempt: which attempt, counted from 1; None means the last one that ended.

    Raises:
        JobNotEnded: it has not ended.
        SpecError: there is no such attempt, or the job was not to hand out any files.
        UnknownJob: there is no record, or it has expired.
    """
    record = session.ledger.queries.get(job_id)
    found = next((one for one in reversed(record.attempts) if attempt in {None, one.number}), None)
    if record.spec is not None and not record.spec.outputs:
        raise SpecError(f"job {job_id} was submitted without outputs (--file-out): it has no files", field="outputs")
    if found is None and attempt is not None and record.terminal:
        raise SpecError(f"job {job_id} has no attempt {attempt}", field="attempt")
    if found is None or (attempt is None and not record.terminal):
        raise JobNotEnded(f"job {job_id} has not ended: it is {shown(record.state)}; `wait` waits for its end")
    none = OutputFiles(
        status=LogStatus.UNAVAILABLE, reason=f"attempt {found.number} had no container that ended by itself"
    )
    return found.number, found.outputs or none


def download(session: Session, job_id: str, to: str | os.PathLike[str], attempt: int | None) -> Iterator[Path]:
    """Copy the files of an attempt below a folder, with the paths that they had in the container; yield each path.

    Args:
        session: the connections.
        job_id: the job's id.
        to: the folder; made where there is none. Files that are there are replaced.
        attempt: which attempt, counted from 1; None means the last one.

    Raises:
        JobNotEnded, SpecError, UnknownJob: as ``output_files``; SpecError also without a store.
        JaasError: a file is not in the store any more, or has other contents; it would lead out of the folder.
        StoreUnavailable: the store does not answer.
        OSError: it cannot be written.
    """
    if session.store is None:
        raise SpecError("outputs: the files are in a store; set JAAS_STORE_URL (or Client(store=...)) to the workers'")
    number, found = output_files(session, job_id, attempt)
    # Where its copy succeeded first, they are the copy's.
    owner, stored = found.stored_by or job_id, found.stored_attempt or number
    folder = Path(to)
    for index, file in enumerate(found.files):
        target = _target(folder, file.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(folder.resolve()):  # a link was there before
            raise JaasError(f"{file.name}: {target.parent} leads out of {folder}; nothing was written there")
        part = target.parent / f".jaas-{uuid.uuid4().hex}.part"
        try:
            with session.store.opened(owner, stored_name(stored, index)) as read, part.open("xb") as written:
                _copy(read, written, file)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        yield target


def _copy(read: IO[bytes], written: IO[bytes], file: OutputFile) -> None:
    digest, size = hashlib.sha256(), 0
    while data := read.read(_COPY_BYTES):
        digest.update(data)
        size += len(data)
        written.write(data)
    if (size, digest.hexdigest()) != (file.size, file.sha256):
        raise JaasError(f"{file.name}: what the store has is not what the job handed out ({size:,} bytes)")


def _target(folder: Path, name: str) -> Path:
    """Return where a file goes. Its name was checked when it was taken; the record may be another's."""
    parts = name.split("/")
    odd = any(Path(part).name != part or os.path.splitdrive(part)[0] for part in parts)  # as C: is on Windows
    if problem := name_problem(name) or ("its name would lead elsewhere here" if odd else ""):
        raise JaasError(f"a file of the job is not written: {problem}")
    return folder.joinpath(*parts)
