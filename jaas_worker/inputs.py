"""The file that a container finds its input in: a swarm config, which reaches it on any node."""

from __future__ import annotations

import json
from typing import NamedTuple

from jaas_submit.batch import batch_job_id
from jaas_submit.ledger import Ledger
from jaas_submit.spec import GATHER_FILE, INPUT_FILE, JobSpec
from jaas_worker.outputs import reduce_lines

__all__ = ["InputFile", "input_file"]


class InputFile(NamedTuple):
    """A file to be put into the container."""

    path: str
    data: bytes


def input_file(spec: JobSpec, ledger: Ledger) -> InputFile | None:
    """Return the file that holds a job's input; None when it has none.

    Args:
        spec: the job's description.
        ledger: where the outputs are that a reduce job gets.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    if spec.gather is not None:
        numbers = range(spec.gather.first, spec.gather.first + spec.gather.count)
        records = ledger.find([batch_job_id(spec.gather.batch, index) for index in numbers])
        return InputFile(GATHER_FILE, reduce_lines(records).encode())
    if spec.input is not None:
        return InputFile(INPUT_FILE, json.dumps(spec.input, ensure_ascii=False).encode())
    return None
