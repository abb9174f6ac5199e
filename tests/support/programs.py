"""What containers do in the tests: as shell text for a real engine, as a description for the one in memory."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ALL_BYTES",
    "COUNT",
    "DEAF",
    "EXIT_4",
    "LONG_LINE",
    "NO_SUCH_IMAGE",
    "NO_SUCH_PROGRAM",
    "PROGRAMS",
    "SPEAK",
    "TRUE",
    "WAIT",
    "Program",
]

NO_SUCH_IMAGE = "jaas-no-such-image:1"
NO_SUCH_PROGRAM = "no-such-program"


@dataclass(frozen=True)
class Program:
    """One program.

    Args:
        shell: what the real container runs.
        output: the pieces it prints at its start, as (stream, data).
        exit_code: how it ends by itself; None where it goes on until it is stopped.
        on_term: exit code after SIGTERM; None where it ignores that.
        last_words: printed on standard output after SIGTERM.
    """

    shell: str
    output: tuple[tuple[str, bytes], ...] = ()
    exit_code: int | None = 0
    on_term: int | None = None
    last_words: bytes = b""

    @property
    def command(self) -> list[str]:
        """For ``JobSpec.command``."""
        return ["sh", "-c", self.shell]


TRUE = Program("true")
EXIT_4 = Program("exit 4", exit_code=4)
SPEAK = Program(
    # The engine reads the two streams apart from each other: only the order within each is sure.
    "echo one; echo two >&2; echo three; printf 'four'",
    output=(("stdout", b"one\n"), ("stderr", b"two\n"), ("stdout", b"three\n"), ("stdout", b"four")),
)
COUNT = Program("seq 0 8", output=tuple(("stdout", f"{number}\n".encode()) for number in range(9)))
LONG_LINE = Program(
    # The engine cuts lines into pieces of 16 KB; its json-file driver makes rubbish of a character on the cut.
    "yes x | head -n 40000 | tr -d '\\n'; echo",
    output=(("stdout", b"x" * 16384), ("stdout", b"x" * 16384), ("stdout", b"x" * 7232 + b"\n")),
)
ALL_BYTES = Program(
    r'i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; i=$((i + 1)); done',
    output=(("stdout", bytes(range(11))), ("stdout", bytes(range(11, 256)))),
)
WAIT = Program(
    "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done",
    output=(("stdout", b"up\n"),),
    exit_code=None,
    on_term=3,
    last_words=b"bye\n",
)
DEAF = Program(
    "trap '' TERM; echo up; while :; do sleep 0.05; done",
    output=(("stdout", b"up\n"),),
    exit_code=None,
)

PROGRAMS = {program.shell: program for program in (TRUE, EXIT_4, SPEAK, COUNT, LONG_LINE, ALL_BYTES, WAIT, DEAF)}
"""Programs that the engine in memory knows, by their shell text."""
