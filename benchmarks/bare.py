"""The limit: jobs as a bare loop over the engine's API runs them. Create, one shared poll, remove; nothing else.

``python -m benchmarks.bare ENGINE JOBS PARALLEL`` prints one JSON object. It keeps no record, survives nothing, reads
no output and knows no exit code; it is what the cluster can do.
"""

from __future__ import annotations

import json
import sys
import time
import uuid

from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.wire_names import LABEL_PREFIX
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.service_spec import service_request
from tests.support.witness import TEST_IMAGE

__all__ = ["SPEC", "run"]

SPEC = JobSpec(image=TEST_IMAGE, command=["sh", "-c", "echo done"])
"""The job of all contestants."""

_POLL = 0.1
"""Seconds between two polls, as jaas' own."""


def run(engine: str, jobs: int, parallel: int) -> dict[str, float]:
    """Run jobs.

    Args:
        engine: DOCKER_HOST of a swarm manager.
        jobs: how many.
        parallel: services that exist at once, at most.

    Returns:
        Seconds from the first creation to the last removal, and processor time of this process.
    """
    prefix = f"bare-{uuid.uuid4().hex[:8]}"
    marks, label = {LABEL_PREFIX: prefix}, f"{LABEL_PREFIX}={prefix}"
    swarm = Swarm(engine)
    running: set[str] = set()
    made = ended = 0
    began, cpu = time.monotonic(), time.process_time()
    while ended < jobs:
        while made < jobs and len(running) < parallel:
            created = swarm.create(service_request(SPEC, f"{prefix}-{made}", 1, marks, {}))
            assert created is not None
            running.add(created.id)
            made += 1
        time.sleep(_POLL)
        for task in swarm.ended_tasks(label):
            if task.service_id in running and task.ended:
                running.discard(task.service_id)
                swarm.remove(task.service_id)
                ended += 1
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
