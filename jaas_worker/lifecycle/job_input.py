"""How a container gets its input: as a swarm config, which reaches any node, or as a file of the store."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, Protocol

from jaas_submit.errors import EngineRefused
from jaas_submit.model.job_spec import GATHER_FILE, INPUT_FILE, JobSpec
from jaas_submit.model.records import JobRecord
from jaas_submit.storage.store import Store
from jaas_worker.decisions.job_output import reduce_lines
from jaas_worker.swarm.create_or_adopt import InputFile

__all__ = ["CONFIG_LIMIT", "NOTHING", "Records", "input_file", "is_own_input"]

NOTHING: Final = "/dev/null"
"""Used for an empty input: the swarm accepts no empty config."""

CONFIG_LIMIT: Final = 1000 * 1024 - 1
"""Bytes that a swarm config may have. Source: moby/swarmkit, manager/controlapi/config.go (less than 1,000 KiB)."""


class Records(Protocol):
    """Source of the outputs that a reduce job gets: ``Ledger.queries``."""

    def gathered(self, batch_id: str, first: int, count: int) -> list[JobRecord]:
        """Return the records of the jobs for some consecutive inputs of a batch; unknown jobs are left out."""


def input_file(spec: JobSpec, records_of: Records, store: Store | None, job_id: str, attempt: int) -> InputFile | None:
    """Return the path or URL of a job's input; None if it has none.

    Args:
        spec: the job's description.
        records_of: source of the outputs that a reduce job gets.
        store: for large values; None if there is none.
        job_id: the job's id.
        attempt: counted from 1.

    Raises:
        LedgerUnavailable: Redis does not answer.
        StoreUnavailable: the store does not answer.
        EngineRefused: it is too large, or outputs of other jobs have expired.
    """
    if spec.gather is not None:
        count = spec.gather.count
        records = records_of.gathered(spec.gather.batch, spec.gather.first, count)
        if len(records) < count:
            missing = count - len(records)
            raise EngineRefused(f"{missing:,} of the {count:,} records of the jobs before it have expired")
        return _gathered(records, store, job_id, attempt) if records else InputFile(NOTHING)
    if spec.input is None:
        return None
    if spec.input_lines and isinstance(spec.input, list):
        lines = b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in spec.input)
        return InputFile(GATHER_FILE, lines) if lines else InputFile(NOTHING)
    if store is not None and isinstance(spec.input, dict) and store.holds(spec.input):
        return _stored(store, spec.input, INPUT_FILE)
    return InputFile(INPUT_FILE, json.dumps(spec.input, ensure_ascii=False).encode())


def is_own_input(path: str, spec: JobSpec, store: Store | None, job_id: str) -> bool:
    """Return whether a path of the host is one that jaas mounts for a job's input: its file in the local store.

    Args:
        path: the source of a mount.
        spec: the job's description.
        store: for large values; None if there is none.
        job_id: the job's id.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    if store is None or not store.is_local:
        return False
    if isinstance(spec.input, dict) and store.holds(spec.input):
        return path == store.path(spec.input)
    return spec.gather is not None and store.is_input_of(job_id, path)


def _stored(store: Store, reference: dict[str, Any], path: str) -> InputFile:
    return InputFile(path, source=store.path(reference)) if store.is_local else InputFile(reference["$ref"])


def _gathered(records: Iterable[JobRecord], store: Store | None, job_id: str, attempt: int) -> InputFile:
    def resolve(value: Any) -> Any:
        if store is not None and store.holds(value):
            return json.loads(store.read(value))
        return value

    lines = reduce_lines(records, resolve)
    kept: list[bytes] = []
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line)
        if size <= CONFIG_LIMIT:
            continue
        if store is None:
            raise EngineRefused(
                f"what it is to read has more than {CONFIG_LIMIT:,} bytes, the most that a swarm config may have; "
                "set JAAS_STORE_URL, or lower fan_in"
            )

        def all_lines() -> Iterable[bytes]:
            yield from kept
            yield from lines

        return _stored(store, store.write(job_id, f"input-{attempt}.jsonl", all_lines()), GATHER_FILE)
    return InputFile(GATHER_FILE, b"".join(kept))
