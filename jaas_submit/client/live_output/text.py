"""PURE: a job's output as text, where text is asked for."""

from __future__ import annotations

import codecs

from jaas_submit.client.live_output.findings import AttemptBegins, AttemptEnds, Missing, NotLive, Output
from jaas_submit.output import Piece

__all__ = ["Decoder"]


class Decoder:
    """Decodes what is found while a job's output is followed.

    It is read as UTF-8. What is not valid there becomes U+FFFD. What is missing is marked on a line of its own.
    """

    def __init__(self) -> None:
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
        self._last = "\n"

    def text(self, found: Output) -> str:
        """Return the text of one finding; it may be empty, or end within a line.

        Args:
            found: the next one.
        """
        match found:
            case Piece(stream=stream, data=data):
                text = self._decoders[stream].decode(data)
            case Missing(stream=stream):
                text = self._mark(self._decoders[stream].decode(b"", final=True), str(found))
            case AttemptBegins(attempt=attempt):
                text = self._mark("", f"attempt {attempt} follows")
            case AttemptEnds(status=status, reason=reason, notices=notices):
                text = "".join(decoder.decode(b"", final=True) for decoder in self._decoders.values())
                for said in (*notices, *([f"output {status}: {reason}"] if reason else ())):
                    text = self._mark(text, said)
            case NotLive():
                text = ""
        self._last = text[-1:] or self._last
        return text

    def _mark(self, before: str, what: str) -> str:
        newline = "" if (before[-1:] or self._last) == "\n" else "\n"
        return f"{before}{newline}[... {what} ...]\n"
