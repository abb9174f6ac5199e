"""A secret variable, from its name in a description to its value in the container, and nowhere else on the way."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from jaas_submit import Cause, Client, JobSpec, LogStatus
from tests.support.jobs import LONG, ended
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("no_service_left")]

WORKER = {"remove_delay": 0}
VALUE = "correct horse {{battery}} staple"
PROGRAM = 'echo "token: $TOKEN"; printf %s "$TOKEN" >&2; sleep 1'


def test_the_container_gets_the_value_and_nobody_else_does(
    jaas: Installation, docker_api: docker.APIClient, tmp_path: Path
) -> None:
    folder, file = tmp_path / "secrets", tmp_path / "policy.toml"
    folder.mkdir()
    (folder / "token").write_text(f"{VALUE}\n")
    file.write_text('rules.env_secrets = ["token"]\n')
    queue = f"{jaas.queue}-secret"
    worker = jaas.worker("secret", queue=queue, policy_file=file, env_secrets=folder).start()
    try:
        with Client(jaas.redis_url, queue=queue, prefix=jaas.prefix) as client:
            spec = JobSpec(image=TEST_IMAGE, command=["sh", "-c", PROGRAM], env_secrets={"TOKEN": "token"})
            counts = f'test "$(echo "$TOKEN" | wc -c)" = {len(VALUE) + 1}'
            plain = client.submit(spec.changed({"command": ["sh", "-c", counts]}))
            assert plain.wait(LONG).ok
            handle = client.submit(spec.changed({"scrub": True}))
            lines = "".join(handle.logs(follow=True, text=True))
            result = handle.wait(LONG)
            assert (result.stdout, result.stderr) == ("token: ***\n", "***")
            assert result.logs.status is LogStatus.PARTIAL
            assert "***" in lines
            assert "battery" not in lines
            refused = ended(client, client.submit(spec.changed({"env_secrets": {"TOKEN": "other"}})).id)
            assert refused.cause is Cause.REFUSED
            assert refused.reason.startswith("env_secrets.TOKEN: secret other is not open to jobs")
            assert "battery" not in str(client.explain(handle.id))
            redis = client.ledger.client
            for key in redis.scan_iter(f"{jaas.prefix}:*"):
                held = redis.dump(key)
                assert held is None or b"battery" not in held, key
    finally:
        worker.stop()
    assert "battery" not in worker.log
