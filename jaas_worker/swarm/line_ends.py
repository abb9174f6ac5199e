"""PURE: line ends that a log driver leaves out are put back."""

from __future__ import annotations

from typing import Final

from jaas_submit.model.logs import Stream

__all__ = ["LONG", "LineEnds"]

LONG: Final = 16 * 1024
"""Bytes of each piece of a longer line but the last. Source: moby, daemon/logger/copier.go, defaultBufSize."""


class LineEnds:
    """Puts back the line ends of long lines.

    An engine hands out a line of more than 16 KiB in pieces with the same time. Docker 20.10's driver ``local`` leaves
    out the line end of the last piece. Seen: 16,385 bytes and a line end come as 16,384 and 1 byte. So a short last
    piece had one, unless it is the last thing that the container wrote: then it is not known. Newer engines and
    json-file hand out every line end.
    """

    def __init__(self) -> None:
        self._long_line: dict[Stream, str] = {}
        self._left_out: set[Stream] = set()
        self._never = False

    def restored(self, stream: Stream, time: str, data: bytes) -> bytes:
        """Return a piece, with the line end before it if that was left out.

        Args:
            stream: where it was written.
            time: the engine's, as text.
            data: the piece, which may be empty.
        """
        start = b"\n" if stream in self._left_out else b""
        self._left_out.discard(stream)
        if len(data) == LONG and not data.endswith(b"\n"):
            self._long_line[stream] = time
        elif self._long_line.pop(stream, None) == time:
            if data.endswith(b"\n"):
                self._never = True
            elif not self._never:
                self._left_out.add(stream)
        return start + data

    @property
    def idle(self) -> bool:
        """Whether all pieces shorter than ``LONG`` are left as they are, up to the next one that is not."""
        return not (self._long_line or self._left_out)

    @property
    def unknown(self) -> tuple[Stream, ...]:
        """The streams at whose end a line end may have been left out, if these were all of their pieces."""
        return tuple(sorted(self._left_out))
