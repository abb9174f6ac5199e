"""Outputs of containers that have exited, for the worker in the same process: the newest ones, in bounded memory."""

from __future__ import annotations

from jaas_submit.output import WholeOutput

__all__ = ["RecentOutputs"]


class RecentOutputs:
    """The newest outputs, by their containers.

    Args:
        most: bytes of all of them, packed; the newest one is kept whatever it has.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._kept: dict[str, WholeOutput] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, container_id: str) -> WholeOutput | None:
        """Return the output of a container; None if it is not kept."""
        return self._kept.get(container_id)

    def add(self, output: WholeOutput) -> None:
        """Keep an output, and drop the oldest ones for it.

        Args:
            output: the output.
        """
        self.remove(output.container_id)
        self._kept[output.container_id] = output
        self._bytes += _cost(output)
        while self._bytes > self._most and len(self._kept) > 1:
            self.remove(next(iter(self._kept)))

    def remove(self, container_id: str) -> None:
        """Drop the output of a container, if it is kept."""
        if (output := self._kept.pop(container_id, None)) is not None:
            self._bytes -= _cost(output)


def _cost(output: WholeOutput) -> int:
    return len(output.logs) + 1024  # what is said of it, and the object
