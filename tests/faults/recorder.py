"""The recorder: a file on the host to which each container appends its start and its end.

Neither Redis nor the swarm can change what stands there. A line is written with one call on a descriptor opened with
O_APPEND, so that lines of several containers never mix. The time is /proc/uptime: all lab nodes share the machine's
kernel, so it is one clock for all, whatever happens to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.faults.history import Event
from tests.faults.payload import FLOOD_BYTES, FLOOD_LINE, NOTHING, PAUSE_S, Payload, expected

__all__ = ["FIRST_CODE", "INSIDE", "Recorder", "script"]

INSIDE = "/recorder"
"""Where containers find the recorder's folder."""

FIRST_CODE = 7
"""Exit code of the first attempt of a job that is to be retried."""


def script(seconds: float, code: int, payload: Payload = NOTHING, *, again: bool = False) -> str:
    """Return the shell text of a job: notes its start, prints, sleeps, notes its end, and exits.

    Args:
        seconds: how long it sleeps, if it has not printed for that time.
        code: its exit code.
        payload: what it prints; ``Recorder.provide`` has written it down.
        again: the first attempt ends when it has printed, with FIRST_CODE.
    """
    note = (
        'note() { read up _ </proc/uptime; echo "$1 $JAAS_JOB_ID $JAAS_ATTEMPT $HOSTNAME $up $2" >>'
        + f"{INSIDE}/lines; }}"
    )
    # A trap runs at once during wait, but not during a plain sleep.
    steps = [note, "note S 0", "trap 'note E 143; exit 143' TERM", *_prints(payload)]
    if again:
        steps.append(f'[ "$JAAS_ATTEMPT" -gt 1 ] || {{ note E {FIRST_CODE}; exit {FIRST_CODE}; }}')
    if seconds and payload.pieces == 1:
        steps.append(f"sleep {seconds:g} & wait $!")
    steps.append(f"note E {code}; exit {code}")
    return "\n".join(steps)


def _prints(payload: Payload) -> list[str]:
    if payload.shape == "flood":
        return [f"yes '{FLOOD_LINE}' | head -c {FLOOD_BYTES} & wait $!"]
    file = f"{INSIDE}/{payload.seed}"
    steps = [f"cat {file}.stderr >&2"] if payload.stderr else []
    if payload.pieces > 1:
        piece = f"dd if={file}.stdout bs={payload.piece_bytes} skip=$i count=1 2>/dev/null"
        steps.append(
            f"i=0; while [ $i -lt {payload.pieces} ]; do {piece}; i=$((i + 1)); sleep {PAUSE_S} & wait $!; done"
        )
    elif payload.stdout:
        steps.append(f"cat {file}.stdout")
    return steps


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

    def provide(self, payload: Payload) -> None:
        """Write down what a job is going to print.

        Args:
            payload: the job's.
        """
        if payload.shape not in {"flood", "nothing"}:
            for stream, data in expected(payload).items():
                (self.folder / f"{payload.seed}.{stream}").write_bytes(data)

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
