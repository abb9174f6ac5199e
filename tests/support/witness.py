"""A witness of container starts that neither Redis nor the swarm can influence: a file on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.service_options.mounts import Mount

__all__ = ["TEST_IMAGE", "Witness"]

TEST_IMAGE = "jaas-test:latest"
"""A shell and busybox' small programs; scripts/up makes it."""

_INSIDE = "/witness"

_TRAP = "trap 'exit 143' TERM"


class Witness:
    """Jobs that append a line to a file on the host when they start.

    Args:
        folder: an empty folder which the engine can mount (same machine).
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # containers may run as any user
        self.folder = folder
        self._starts = folder / "starts"
        self._starts.touch()
        self._starts.chmod(0o666)

    @property
    def mount(self) -> Mount:
        """The folder, as a mount of a job."""
        return Mount(source=str(self.folder), target=_INSIDE)

    def spec(self, then: str = "true", **fields: Any) -> JobSpec:
        """Return a job that notes its start and goes on with a piece of shell.

        Args:
            then: the shell text; its exit code is the job's.
            fields: further fields of the description.
        """
        note = f'echo "$JAAS_JOB_ID $JAAS_ATTEMPT $HOSTNAME" >> {_INSIDE}/starts'
        if _TRAP in then:  # whoever has seen the start may send the signal
            note, then = f"{_TRAP}; {note}", then.replace(f"{_TRAP}; ", "")
        mounts = (self.mount, *fields.pop("mounts", ()))
        return JobSpec(**{"image": TEST_IMAGE, "command": ["sh", "-c", f"{note}; {then}"], "mounts": mounts, **fields})

    def held(self, gate: str = "go") -> str:
        """Return shell text that waits until the test calls ``open(gate)``; SIGTERM ends it with code 143."""
        return f"{_TRAP}; until [ -e {_INSIDE}/{gate} ]; do sleep 0.05; done"

    def open(self, gate: str = "go") -> None:
        """Let the jobs go on that wait at a gate."""
        (self.folder / gate).touch()

    def starts(self, job_id: str = "") -> list[str]:
        """Return a line "job attempt container" for each container start so far, of one job or of all."""
        lines = self._starts.read_text().splitlines()
        return [line for line in lines if line.startswith(job_id)]
