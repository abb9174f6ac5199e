"""The recorder: a file on the host to which each container appends its start and its end.

Neither Redis nor the swarm can change what stands there. A line is written with one call on a descriptor opened with
O_APPEND, so that lines of several containers never mix. The time is /proc/uptime: all lab nodes share the machine's
kernel, so it is one clock for all, whatever happens to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.faults.history import Event

__all__ = ["INSIDE", "Recorder", "script"]

INSIDE = "/recorder"
"""Where containers find the recorder's folder."""

FLOOD_BYTES = 100 * 1024 * 1024


FIRST_CODE = 7
"""Exit code of the first attempt of a job that is to be retried."""


def script(seconds: float, code: int, output: str = "", *, flood: bool = False, again: bool = False) -> str:
    """Return the shell text of a job: notes its start, prints, sleeps, notes its end, and exits.

    Args:
        seconds: how long it sleeps.
        code: its exit code.
        output: printed on standard output.
        flood: print 100 MB besides.
        again: the first attempt ends at once, with FIRST_CODE.
    """
    note = (
        'note() { read up _ </proc/uptime; echo "$1 $JAAS_JOB_ID $JAAS_ATTEMPT $HOSTNAME $up $2" >>'
        + f"{INSIDE}/lines; }}"
    )
    steps = [note, "note S 0", "trap 'note E 143; exit 143' TERM"]
    if again:
        steps.append(f'[ "$JAAS_ATTEMPT" -gt 1 ] || {{ note E {FIRST_CODE}; exit {FIRST_CODE}; }}')
    if output:
        steps.append(f"echo {output}")
    if flood:
        steps.append(f"yes 'a line of a flood, which goes on and on' | head -c {FLOOD_BYTES} & wait $!")
    if seconds:
        steps.append(f"sleep {seconds:g} & wait $!")  # a trap runs at once during wait, but not during a plain sleep
    steps.append(f"note E {code}; exit {code}")
    return "\n".join(steps)


class Recorder:
    """The file.

    Args:
        folder: is made; containers mount it at INSIDE.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._lines = folder / "lines"
        self._lines.touch()

    def events(self) -> Iterator[Event]:
        """Yield what was recorded: ``start`` and ``stop`` events with job, attempt, container and exit code."""
        for line in self._lines.read_text().splitlines():
            what, job, attempt, container, up, code = line.split()
            kind = {"S": "start", "E": "stop"}[what]
            yield {
                "e": kind,
                "t": float(up),
                "id": job,
                "attempt": int(attempt),
                "container": container,
                "code": int(code),
            }
