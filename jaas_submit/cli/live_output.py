"""How `jaas` prints a container's output while it runs: its bytes as they are, and what jaas has to say on stderr."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import IO, TYPE_CHECKING, Final

import click

from jaas_submit.cli.common import EXIT_JAAS
from jaas_submit.cli.output import Progress

if TYPE_CHECKING:
    from jaas_submit.client.live_output.batch_output import JobFound
    from jaas_submit.client.live_output.findings import Output
    from jaas_submit.model.logs import Stream

__all__ = ["EXIT_PIPE", "BatchPrinter", "OutputPrinter", "discard"]

EXIT_PIPE: Final = 141
"""Exit code of a program that writes to a pipe whose reader has gone, as a shell has it."""

_COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")

_HELD_BYTES: Final = 64 * 1024
"""Bytes of an unfinished line that are held back at most, where the lines of several jobs are mixed."""


class OutputPrinter:
    """Prints what is found while a job's output is followed.

    Args:
        progress: where to say what is missing.
        streams: which stream is printed; None for both.
        timestamps: put the time in front of each line.
        label: put this in front of each line, and print whole lines only.
        colour: of the label on a terminal; empty for none.
        to_stderr: print both streams on stderr.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        streams: Stream | None = None,
        timestamps: bool = False,
        label: str = "",
        colour: str = "",
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
        self._colour = colour
        self._to_stderr = to_stderr
        self._held: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
        self._within_line: dict[Stream, bool] = {"stdout": False, "stderr": False}

    def show(self, found: Output) -> None:
        """Print one finding.

        Raises:
            BrokenPipeError: the reader of the output has gone.
        """
        from jaas_submit.client.live_output.findings import AttemptBegins, Missing, NotLive
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
                self._write(stream, self._start(stream) + held + b"\n")

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
        start = self._start(stream) + (f"{time or '-'} ".encode() if self._timestamps else b"")
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

    def _start(self, stream: Stream) -> bytes:
        """Return what stands in front of each line."""
        if not (self._colour and self._label and self._where(stream).isatty()):
            return self._label.encode()
        return click.style(self._label, fg=self._colour).encode()

    def _where(self, stream: Stream) -> IO[str]:
        return sys.stderr if stream == "stderr" or self._to_stderr else sys.stdout

    def _write(self, stream: Stream, data: bytes) -> None:
        # At once: what a container writes to a terminal must stand in its order.
        where = self._where(stream)
        try:
            where.buffer.write(data)  # type: ignore[attr-defined] # a text stream of Python's has one
            where.buffer.flush()  # type: ignore[attr-defined] # as above
        except BrokenPipeError:
            discard(where)
            raise


class BatchPrinter:
    """Prints the output of a batch's jobs, with the number of the input in front of each line.

    Args:
        progress: where to say what is missing.
        most: the highest number.
        word: what stands in front of the number.
        streams: which stream is printed; None for both.
        timestamps: put the time in front of each line, too.
        to_stderr: print both streams on stderr.
    """

    def __init__(
        self,
        progress: Progress,
        most: int,
        word: str = "",
        *,
        streams: Stream | None = None,
        timestamps: bool = False,
        to_stderr: bool = False,
    ) -> None:
        self._make = partial(OutputPrinter, progress, streams=streams, timestamps=timestamps, to_stderr=to_stderr)
        self._width = len(str(most))
        self._word = word
        self._coloured = not os.environ.get("NO_COLOR")
        self._printers: dict[int, OutputPrinter] = {}

    def show(self, one: JobFound) -> None:
        """Print one finding.

        Raises:
            BrokenPipeError: the reader of the output has gone.
        """
        if one.number not in self._printers:
            label = f"{self._word}{one.number:>{self._width}} | "
            colour = _COLOURS[one.number % len(_COLOURS)] if self._coloured else ""
            self._printers[one.number] = self._make(label=label, colour=colour)
        self._printers[one.number].show(one.found)

    def code(self, code: int, *, whole: bool) -> int:
        """Return the exit code of a command; see ``OutputPrinter.code``."""
        return next((EXIT_JAAS for one in self._printers.values() if one.code(code, whole=whole) != code), code)


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
