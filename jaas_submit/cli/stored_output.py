"""How `jaas` prints a container's stored output: its bytes as they are, and what jaas has to say on stderr."""

from __future__ import annotations

import base64
import os
import sys
from typing import TYPE_CHECKING, Any

from jaas_submit.cli.output import Progress

if TYPE_CHECKING:
    from jaas_submit.model.logs import LogLine, Logs

__all__ = ["logs_json", "logs_note", "print_logs"]


def print_logs(logs: Logs, *, timestamps: bool = False) -> None:
    """Print a container's output, byte for byte: its stdout on stdout, its stderr on stderr.

    What jaas has to say, such as where bytes are missing, goes to stderr. A reader that stops early (`| head`) must not
    change the exit code of `jaas run`.

    Args:
        logs: the output.
        timestamps: put the time in front of each line.
    """
    logs = logs.by_line() if timestamps else logs
    written = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    gaps = list(logs.gaps)
    try:
        for number, line in enumerate(logs.lines):
            while gaps and gaps[0].before <= number:
                _note(f"{gaps.pop(0)} are missing here")
            start = f"{line.time or '-'} ".encode() if timestamps else b""
            written[line.stream].write(start + line.data)
            following = logs.lines[number + 1].stream if number + 1 < len(logs.lines) else None
            if following != line.stream:  # on a terminal both streams stand in their order
                written[line.stream].flush()
        for gap in gaps:
            _note(f"{gap} are missing at the end")
        for notice in logs.notices:
            _note(notice)
    except BrokenPipeError:
        # Nothing more can be written there, not even Python's buffer at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _note(text: str) -> None:
    sys.stdout.buffer.flush()
    Progress(quiet=True).warn(text)


def logs_json(logs: Logs) -> dict[str, Any]:
    """Return output as a JSON object, with its bytes in base64 where they are no valid UTF-8.

    Args:
        logs: the output.
    """
    return {
        "status": logs.status,
        "reason": logs.reason,
        "lines": [_line_json(line) for line in logs.lines],
        "gaps": [gap._asdict() for gap in logs.gaps],
        "notices": logs.notices,
    }


def _line_json(line: LogLine) -> dict[str, str]:
    fields = {"time": line.time, "stream": line.stream, "text": line.text}
    if line.text.encode() != line.data:
        fields["base64"] = base64.b64encode(line.data).decode("ascii")
    return fields


def logs_note(logs: Logs) -> str:
    """Return the message about incomplete output; empty if it is complete."""
    return logs.reason and f"output {logs.status}: {logs.reason}"
