"""The file that a container finds its input in: a swarm config, which reaches it on any node."""

from __future__ import annotations

import json
from typing import NamedTuple

from jaas_submit.batch import batch_job_id
from jaas_submit.errors import EngineRefused
from jaas_submit.ledger import Ledger
from jaas_submit.spec import GATHER_FILE, INPUT_FILE, JobSpec
from jaas_worker.outputs import reduce_lines

__all__ = ["NOTHING", "InputFile", "input_file"]


NOTHING = "/dev/null"
"""Stands for an input without a line: the swarm takes no empty file."""


class InputFile(NamedTuple):
    """Where a container finds its input, and what has to be put there, if anything: NOTHING is there already."""

    path: str
    data: bytes = b""
    """The contents, for a swarm config."""
    source: str = ""
    """A file on the host of every node, for a bind mount."""


def input_file(spec: JobSpec, ledger: Ledger) -> InputFile | None:
    """Return the file that holds a job's input; None when it has none.

    Args:
        spec: the job's description.
        ledger: where the outputs are that a reduce job gets.

    Raises:
        LedgerUnavailable: Redis does not answer.
        EngineRefused: outputs that are to be gathered have expired.
    """
    if spec.gather is not None:
        numbers = range(spec.gather.first, spec.gather.first + spec.gather.count)
        records = ledger.find([batch_job_id(spec.gather.batch, index) for index in numbers])
        if len(records) < len(numbers):
            missing = len(numbers) - len(records)
            raise EngineRefused(f"{missing:,} of the {len(numbers):,} records to be gathered have expired")
        return InputFile(GATHER_FILE if records else NOTHING, reduce_lines(records).encode())
    if spec.input is not None:
        return InputFile(INPUT_FILE, json.dumps(spec.input, ensure_ascii=False).encode())
    return None
