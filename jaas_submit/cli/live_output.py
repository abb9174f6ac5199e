"""How `jaas` prints a container's output while it runs: its bytes as they are, and what jaas has to say on stderr."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Final

from jaas_submit.cli.common import EXIT_JAAS
from jaas_submit.cli.output import Progress

if TYPE_CHECKING:
    from jaas_submit.client.live_output.job_output import Output
    from jaas_submit.model.logs import Stream

__all__ = ["EXIT_PIPE", "OutputPrinter", "discard"]

EXIT_PIPE: Final = 141
"""Exit code of a program that writes to a pipe whose reader has gone, as a shell has it."""

_HELD_BYTES: Final = 64 * 1024
"""Bytes of an unfinished line that are held back at most, where the lines of several jobs are mixed."""


class OutputPrinter:
    """Prints what is found while a job's output is followed.

    Args:
        progress: where to say what is missing.
        streams: which stream is printed; None for both.
        timestamps: put the time in front of each line.
        label: put this in front of each line, and print whole lines only.
        to_stderr: print both streams on stderr.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        streams: Stream | None = None,
        timestamps: bool = False,
        label: str = "",
        to_stderr: bool = False,
    ) -> None:
        self.cut = False
        """Something is missing of what was to be printed."""
        self.behind = False
        """The output was there, and this reader fell behind."""
        self.status = ""
        """What is said of the last attempt's output; empty before its end."""
        self._progress = progress
        self._streams = streams
        self._timestamps = timestamps
        self._label = label
        self._to_stderr = to_stderr
        self._held: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
        self._within_line: dict[Stream, bool] = {"stdout": False, "stderr": False}

    def show(self, found: Output) -> None:
        """Print one finding.

        Raises:
            BrokenPipeError: the reader of the output has gone.
        """
        from jaas_submit.client.live_output.job_output import AttemptBegins, Missing, NotLive
        from jaas_submit.output import Piece

        if isinstance(found, Piece):
            if self._streams in {None, found.stream}:
                self._print(found.stream, found.time, found.data)
        elif isinstance(found, Missing):
            if self._streams in {None, found.stream}:
                self.cut, self.behind = True, self.behind or found.behind
                self._warn(str(found))
        elif isinstance(found, AttemptBegins):
            self._warn(f"the output of attempt {found.attempt} follows")
        elif isinstance(found, NotLive):
            self._progress.say(f"{self._label}the output is printed at the end: {found.reason}")
        else:
            self.finish()
            self.status = found.status
            self.cut = self.cut or found.status != "complete"
            for notice in found.notices:
                self._warn(notice)
            if found.reason:
                self._warn(f"output {found.status}: {found.reason}")

    def finish(self) -> None:
        """Print what was held back of unfinished lines."""
        for stream, held in self._held.items():
            self._held[stream] = b""
            if held:
                self._write(stream, self._label.encode() + held + b"\n")

    def code(self, code: int, *, whole: bool) -> int:
        """Return the exit code of a command.

        Args:
            code: what it would be if the output were complete.
            whole: whether output that is not complete is a failure.
        """
        return EXIT_JAAS if not code and (self.behind or (whole and self.cut)) else code

    def _warn(self, text: str) -> None:
        self._progress.warn(f"{self._label}{text}")

    def _print(self, stream: Stream, time: str, data: bytes) -> None:
        if not (self._label or self._timestamps):
            self._write(stream, data)
            return
        start = f"{self._label}{time or '-'} ".encode() if self._timestamps else self._label.encode()
        if self._label:
            data = self._held[stream] + data
            end = data.rfind(b"\n") + 1
            if not end and len(data) > _HELD_BYTES:
                data += b"\n"
                end = len(data)
            data, self._held[stream] = data[:end], data[end:]
        lines = _lines(data)
        text = b"".join(line if n == 0 and self._within_line[stream] else start + line for n, line in enumerate(lines))
        self._within_line[stream] = not data.endswith(b"\n") if data else self._within_line[stream]
        self._write(stream, text)

    def _write(self, stream: Stream, data: bytes) -> None:
        # What a container writes to a terminal must stand in its order.
        where = sys.stderr if stream == "stderr" or self._to_stderr else sys.stdout
        try:
            where.buffer.write(data)
            where.buffer.flush()
        except BrokenPipeError:
            discard(where)
            raise


def _lines(data: bytes) -> list[bytes]:
    """Return lines that end with a newline; carriage returns end none."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def discard(stream: IO[str]) -> None:
    """Discard from now on what is written to a stream whose reader has gone, also Python's buffer at exit.

    Args:
        stream: stdout or stderr.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
