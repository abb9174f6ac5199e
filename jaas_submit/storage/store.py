"""Values that are too large for Redis: files in a store that a URL names, reached through fsspec.

The files of a job are below ``URL/PREFIX/JOB_ID/`` and are removed when its record has expired. In the record stands a
reference instead of the value: ``{"$ref": "file:///srv/jaas/jaas/ID/output-1.json", "bytes": 1234567, "sig": "..."}``.

Files that producers send with jobs are below ``URL/PREFIX/.files/``, each once for all jobs that have it: the ledger
knows who needs it.

Values of users may look like that. So jaas signs each reference with a secret of the ledger. It follows only references
with a valid signature; anything else that looks like one stays a plain value.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final
from urllib.parse import urlsplit

from jaas_submit.errors import JaasError, SpecError, StoreUnavailable, how_to_install
from jaas_submit.model.bounds import shown
from jaas_submit.model.wire_names import job_id_of

__all__ = ["INLINE_LIMIT", "Store", "is_reference"]

INLINE_LIMIT: Final = 64 * 1024
"""Bytes of JSON above which an input goes into the store, if there is one."""

_MAX_SIZE: Final = 2**63

_SHARED: Final = ".files"
"""The folder of files that several jobs have; no job id begins with a dot."""

_SHARED_NAME: Final = re.compile(r"[0-9a-f]{64}-[0-9a-f]{8}\Z")
_COPY_BYTES: Final = 1024 * 1024


def is_reference(value: object) -> bool:
    """Return whether a value is a reference to a store."""
    return isinstance(value, dict) and value.keys() == {"$ref", "bytes", "sig"} and isinstance(value["$ref"], str)


class Store:
    """A folder for large values.

    Args:
        url: such as ``file:///srv/jaas`` (a file system that producers, workers and nodes share) or
            ``s3://bucket/jaas``.
        prefix: the installation's; first folder below it.
        secret: returns what references are signed with (``Maintenance.secret``); asked each time, so that a ledger
            that was lost is not confused with its successor.

    Raises:
        SpecError: the URL names no folder, or its packages are not installed.
    """

    def __init__(self, url: str, prefix: str, secret: Callable[[], str]) -> None:
        parts = urlsplit(url)
        if not parts.scheme or not (parts.netloc or parts.path.strip("/")) or ".." in parts.path.split("/"):
            raise SpecError(f"JAAS_STORE_URL: {url!r} names no folder; write file:///srv/jaas or s3://bucket/jaas")
        if parts.scheme == "file" and parts.netloc:
            raise SpecError(f"JAAS_STORE_URL: {url!r} names a host; write file:/// and an absolute path")
        self.url = url.rstrip("/")
        self.prefix = prefix
        self._secret = secret
        self.is_local = parts.scheme == "file"
        try:
            import fsspec  # type: ignore[import-untyped] # it has no stubs

            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise SpecError(
                f"JAAS_STORE_URL: {error}; {how_to_install('store')}, and install what the URL needs"
            ) from error

    def __repr__(self) -> str:
        return f"Store({urlsplit(self.url).scheme}://...)"

    @contextmanager
    def _reach(self, what: str) -> Iterator[None]:
        try:
            yield
        except JaasError:  # of what is written, not of the store
            raise
        except FileNotFoundError as error:
            raise JaasError(f"{what}: it is not there (any more)") from error
        except Exception as error:  # every kind of store has errors of its own
            raise StoreUnavailable(f"{what}: {type(error).__name__}: {error}") from error

    def _place(self, job_id: str, name: str) -> tuple[str, str]:
        if job_id_of(job_id) != job_id:  # such as "..", which would lead elsewhere
            raise SpecError(f"{shown(job_id)} is no job id, and names no folder in the store")
        below = posixpath.join(self.prefix, job_id, name)
        return posixpath.join(self._root, below), f"{self.url}/{below}"

    def write(self, job_id: str, name: str, pieces: Iterable[bytes]) -> dict[str, Any]:
        """Write one of a job's files (again), piece by piece; return the reference to it.

        Args:
            job_id: the job's id.
            name: the file's name.
            pieces: its contents.

        Raises:
            StoreUnavailable: it failed; calling again may help.
        """
        path, url = self._place(job_id, name)
        size = self._write(path, url, pieces)
        return {"$ref": url, "bytes": size, "sig": self._signature(url, size)}

    def _write(self, path: str, url: str, pieces: Iterable[bytes]) -> int:
        size = 0
        with self._reach(f"writing {url}"):
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            with self._fs.open(path, "wb") as file:
                for piece in pieces:
                    size += file.write(piece)
        return size

    def _signature(self, url: str, size: int) -> str:
        return hmac.new(self._secret().encode(), f"{size} {url}".encode(), hashlib.sha256).hexdigest()

    def holds(self, value: object) -> bool:
        """Return whether a value is a reference that jaas has made to a file of this store, and of this installation.

        What a container prints, or a producer sends, may look like one: nothing may be read by it.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        if not isinstance(value, dict) or not is_reference(value):
            return False
        url, size, signature = value["$ref"], value["bytes"], value["sig"]
        if not url.startswith(f"{self.url}/{self.prefix}/") or {"..", "."} & set(url.split("/")):
            return False
        if not (isinstance(signature, str) and signature.isascii() and isinstance(size, int) and url.isprintable()):
            return False
        return 0 <= size < _MAX_SIZE and hmac.compare_digest(self._signature(url, size), signature)

    def path(self, reference: dict[str, Any]) -> str:
        """Return the file's path in the store's own terms; for ``file://`` that is the one on the host."""
        return str(posixpath.join(self._root, reference["$ref"].removeprefix(self.url).lstrip("/")))

    def is_input_of(self, job_id: str, path: str) -> bool:
        """Return whether a path is that of a gathered input of a job's attempt.

        Args:
            job_id: the job's id.
            path: in the store's own terms.
        """
        folder, name = posixpath.split(path)
        made = name.startswith("input-") and name.endswith(".jsonl")
        return made and job_id_of(job_id) == job_id and folder == posixpath.dirname(self._place(job_id, name)[0])

    def read(self, reference: dict[str, Any]) -> bytes:
        """Return the contents of a file.

        Raises:
            JaasError: it is not there any more.
            StoreUnavailable: the store does not answer.
        """
        with self._reach(f"reading {reference['$ref']}"):
            return bytes(self._fs.cat_file(self.path(reference)))

    @contextmanager
    def opened(self, job_id: str, name: str) -> Iterator[IO[bytes]]:
        """Open one of a job's files for reading.

        Args:
            job_id: the job's id.
            name: the file's name.

        Raises:
            JaasError: it is not there any more.
            StoreUnavailable: the store does not answer.
        """
        path, url = self._place(job_id, name)
        with self._reach(f"reading {url}"), self._fs.open(path, "rb") as file:
            yield file

    def keep(self, job_id: str, name: str, value: Any, limit: int = INLINE_LIMIT) -> Any:
        """Return the value itself, or, if it has more than ``limit`` bytes as JSON, a reference to it.

        Args:
            job_id: the job's id.
            name: the file's name.
            value: any value.
            limit: bytes.

        Raises:
            SpecError: it cannot be written as JSON.
            StoreUnavailable: the store does not answer.
        """
        if isinstance(value, str | list | dict | tuple):
            try:
                data = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
            except (ValueError, TypeError, RecursionError) as error:
                raise SpecError(f"input: cannot be written as JSON: {shown(str(error))}", field="input") from None
            if len(data) > limit:
                return self.write(job_id, name, [data])
        return value

    def remove(self, job_ids: Iterable[str]) -> int:
        """Remove the files of jobs; return the number of jobs that had any."""
        count = 0
        for job_id in job_ids:
            if job_id_of(job_id) != job_id:  # what is no id has no files; the index may hold anything
                continue
            path, url = self._place(job_id, "")
            with self._reach(f"removing {url}"):
                if self._fs.exists(path.rstrip("/")):
                    self._fs.rm(path.rstrip("/"), recursive=True)
                    count += 1
        return count

    # -- files that several jobs have ---------------------------------------------------------------------------------

    def _shared(self, name: str) -> tuple[str, str]:
        if not _SHARED_NAME.match(name):  # from Redis, where anybody who may write there may write anything
            raise SpecError(f"{shown(name)} is no name of a file in the store")
        below = posixpath.join(self.prefix, _SHARED, name)
        return posixpath.join(self._root, below), f"{self.url}/{below}"

    def shared_path(self, name: str) -> str:
        """Return a shared file's path in the store's own terms; for ``file://`` that is the one on the host.

        Args:
            name: the digest of its content (SHA-256), a dash, and eight letters that make the name unique.

        Raises:
            SpecError: that is no such name.
        """
        return self._shared(name)[0]

    def shared_url(self, name: str) -> str:
        """Return a shared file's URL; see ``shared_path``."""
        return self._shared(name)[1]

    def is_shared(self, path: str, digest: str) -> bool:
        """Return whether a path is that of a shared file with a content.

        Args:
            path: in the store's own terms.
            digest: of the content.
        """
        folder, name = posixpath.split(path)
        if not _SHARED_NAME.match(name) or not name.startswith(f"{digest}-"):
            return False
        return folder == posixpath.dirname(self._shared(name)[0])

    def write_shared(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a shared file; in a folder with permissions 0555, so that containers of any user can read and run it.

        Args:
            name: see ``shared_path``.
            pieces: its content.

        Raises:
            StoreUnavailable: it failed; calling again may help.
        """
        path, url = self._shared(name)
        self._write(path, url, pieces)
        if self.is_local:
            with self._reach(f"writing {url}"):
                os.chmod(path, 0o555)  # noqa: S103 (what a producer sends is for the containers of its jobs)

    def shared_size(self, name: str) -> int | None:
        """Return how many bytes a shared file has; None if it is not there.

        Args:
            name: see ``shared_path``.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        path, url = self._shared(name)
        with self._reach(f"looking for {url}"):
            return int(self._fs.info(path)["size"]) if self._fs.exists(path) else None

    def read_shared(self, name: str) -> Iterator[bytes]:
        """Yield a shared file's content, piece by piece.

        Args:
            name: see ``shared_path``.

        Raises:
            JaasError: it is not there any more.
            StoreUnavailable: the store does not answer.
        """
        path, url = self._shared(name)
        with self._reach(f"reading {url}"), self._fs.open(path, "rb") as file:
            while piece := file.read(_COPY_BYTES):
                yield piece

    def remove_shared(self, name: str) -> None:
        """Remove a shared file, if it is there.

        Args:
            name: see ``shared_path``.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        path, url = self._shared(name)
        with self._reach(f"removing {url}"):
            if self._fs.exists(path):
                self._fs.rm(path)
