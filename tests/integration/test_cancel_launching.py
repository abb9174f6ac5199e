"""Cancelling a job in the middle of its launch: its worker is dead, right before or right after the service was made.

tests/integration/test_worker_cancel.py has the other states, test_retry.py the time between two attempts.
"""

from __future__ import annotations

import docker
import pytest

from jaas_submit import Cause, Client, JobState
from tests.support.jobs import LONG, celery_result, containers_of, ended
from tests.support.wait import eventually
from tests.support.witness import Witness
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis]

WORKER = {"lease": "4s", "reconcile_interval": "0.2"}


@pytest.mark.parametrize(("failpoint", "starts"), [("create.before", 0), ("create.after", 1)])
def test_a_job_that_is_being_launched_is_cancelled(
    jaas: Installation,
    client: Client,
    witness: Witness,
    docker_api: docker.APIClient,
    failpoint: str,
    starts: int,
) -> None:
    doomed = jaas.worker(failpoint=failpoint).launch()
    handle = client.submit(witness.spec(witness.held()))
    eventually(lambda: not doomed.alive, LONG, lambda: f"the worker to die:\n{doomed.log}")
    assert handle.state is JobState.LAUNCHING
    assert len(jaas.services()) == starts
    eventually(lambda: len(witness.starts()) == starts, LONG)
    assert handle.cancel("in the middle") is JobState.LAUNCHING
    assert "It is to be cancelled: in the middle." in client.explain(handle.id).sentences
    heir = jaas.worker().start()
    try:
        result = ended(client, handle.id)
        assert (result.state, result.cause, result.reason) == (JobState.CANCELLED, Cause.CANCELLED, "in the middle")
        assert len(result.attempts) == 1
        told = celery_result(handle.id, app=client.app)
        eventually(lambda: told.state == "REVOKED", LONG, lambda: f"Celery to say REVOKED, not {told.state}")
        eventually(lambda: not containers_of(docker_api, handle.id), LONG, "the container to be gone")
        assert len(witness.starts()) == starts
    finally:
        heir.stop()
        # The name of a service taken over in mid-launch is kept for JAAS_LATE_LAUNCH_GRACE: a former holder that wakes
        # up must not launch it again.
        jaas.remove_services()
