"""``python -m benchmarks.watchers JOB COUNT``: watches a job so many times; prints how many got every byte."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from jaas_submit import Client, Piece
from jaas_submit.client.live_output.findings import AttemptEnds, Missing


def _watch(job_id: str) -> bool:
    """Read a job's output to its end, and return whether nothing is missing."""
    whole = False
    with Client() as client:
        for found in client.handle(job_id).logs(follow=True, timeout=600):
            if isinstance(found, AttemptEnds):
                whole = found.status == "complete"
            elif not isinstance(found, Piece) and isinstance(found, Missing):
                return False
    return whole


def main() -> None:
    """Watch, and print the number."""
    job_id, count = sys.argv[1], int(sys.argv[2])
    with ThreadPoolExecutor(count) as pool:
        print(sum(pool.map(_watch, [job_id] * count)))


if __name__ == "__main__":
    main()
