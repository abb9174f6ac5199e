"""The files that a container gets: as swarm configs, which reach any node, or from the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial

from jaas_submit.errors import EngineRefused, JaasError, TemporaryError
from jaas_submit.ledger import SentFile
from jaas_submit.model.bounds import shown
from jaas_submit.model.files.inputs import FileIn, in_configs, target_of, unsent
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.storage.store import Store
from jaas_worker.lifecycle.worker_context import WorkerContext
from jaas_worker.swarm.files.shared_configs import is_config_of
from jaas_worker.swarm.service_spec import FilePlace

__all__ = ["file_places", "is_own_config", "is_own_mount"]


def file_places(spec: JobSpec, world: WorkerContext) -> dict[str, FilePlace]:
    """Return where a container finds each of its files, by name; make the configs that do not exist.

    Args:
        spec: the job's description.
        world: the worker.

    Raises:
        EngineRefused: a file was not sent, is not kept any more, or is another one than was sent.
        TemporaryError: Redis, store or engine do not answer.
    """
    for name in unsent(spec.files):
        raise EngineRefused(f"files.{shown(name)}: is a path at its producer; only the client of jaas sends files")
    small = in_configs({name: file.size or 0 for name, file in spec.files.items()})
    places: dict[str, FilePlace] = {}
    for name, file in spec.files.items():
        try:
            places[name] = _in_config(name, file, world) if name in small else _in_store(name, file, world)
        except TemporaryError:
            raise
        except JaasError as error:  # of the store: it is not there any more
            raise EngineRefused(f"files.{shown(name)}: {error}") from error
    return places


def _in_config(name: str, file: FileIn, world: WorkerContext) -> FilePlace:
    made = world.file_configs.get(str(file.sha256), partial(_content, file, world), world.clock.time())
    mode = 0o444 if file.mode is None else file.mode
    return FilePlace(target_of(name), made.id, made.name, mode=mode)


def _content(file: FileIn, world: WorkerContext) -> bytes:
    found = _found(file, world)
    data = found.data
    if data is None:
        data = b"".join(_store_of(world).read_shared(found.stored))
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise JaasError("what is kept is not what was sent: its SHA-256 differs; submit the job again")
    return data


def _in_store(name: str, file: FileIn, world: WorkerContext) -> FilePlace:
    store, found = _store_of(world), _found(file, world)
    if found.stored and not found.stored.startswith(f"{file.sha256}-"):  # producers may write where it is noted
        raise JaasError("what is noted of it is another file; submit the job again")
    size = store.shared_size(found.stored) if found.stored else None
    if size is None:
        raise JaasError("it is not in the store any more; submit the job again")
    if size != file.size:
        raise JaasError(f"what the store has is not what was sent: it has {size:,} bytes; submit the job again")
    if store.is_local:
        return FilePlace(target_of(name), source=store.shared_path(found.stored))
    return FilePlace(store.shared_url(found.stored))


def _found(file: FileIn, world: WorkerContext) -> SentFile:
    found = world.ledger.sent_files.find(str(file.sha256))
    if found is None:
        raise JaasError("its content is not kept any more; submit the job again with its files")
    return found


def _store_of(world: WorkerContext) -> Store:
    if world.store is None:
        raise JaasError("it is in a store, and this worker has none; set JAAS_STORE_URL for the workers")
    return world.store


def is_own_config(name: str, target: str, spec: JobSpec, installation: Mapping[str, str]) -> bool:
    """Return whether a config in a service is one that jaas has added for a file of its job.

    Args:
        name: the config's.
        target: its path in the container.
        spec: the job's description.
        installation: labels of the installation.
    """
    files = ((target_of(one), file.sha256) for one, file in spec.files.items())
    return any(path == target and digest and is_config_of(name, digest, installation) for path, digest in files)


def is_own_mount(source: str, target: str, spec: JobSpec, store: Store | None) -> bool:
    """Return whether a mount in a service is one that jaas has added for a file of its job.

    Args:
        source: its path on the host.
        target: its path in the container.
        spec: the job's description.
        store: for large values; None if there is none.
    """
    if store is None or not store.is_local:
        return False
    files = ((target_of(one), file.sha256) for one, file in spec.files.items())
    return any(path == target and digest and store.is_shared(source, digest) for path, digest in files)
