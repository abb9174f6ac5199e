"""A hundred thousand inputs: the producer reads them one by one and keeps none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from jaas_submit import Client
from tests.support.redis_server import OwnRedis
from tests.support.worker import clean_env

pytestmark = [pytest.mark.redis, pytest.mark.timeout(600)]

ITEMS = int(os.environ.get("JAAS_TEST_ITEMS", "20000"))
"""CI takes fewer, to save minutes; the bound is the same. Set it to 100000 for the full size."""

PRODUCER = """
import resource, sys
from jaas_submit import Client, JobSpec

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def inputs(count):
    for number in range(count):
        if number == 2000:
            print(peak(), flush=True)
        yield {"url": f"http://example.org/page/{number}"}

with Client(sys.argv[1]) as client:
    batch = client.map(JobSpec(image="a", command=["fetch", "{item.url}"]), inputs(int(sys.argv[2])), max_parallel=100)
    print(peak(), batch.id)
"""


def test_the_memory_of_a_producer_does_not_grow_with_its_inputs(own_redis: Callable[..., OwnRedis]) -> None:
    redis = own_redis(appendonly="no")
    done = subprocess.run(
        [sys.executable, "-c", PRODUCER, redis.url, str(ITEMS)],
        env=clean_env(),
        capture_output=True,
        text=True,
        check=True,
    )
    early, late, batch_id = done.stdout.split()
    # In KB. The list of ids alone would be 10 MB for 100,000.
    assert int(late) - int(early) < 8_000, done.stdout
    with Client(redis.url) as client:
        status = client.batch(batch_id).status
        assert (status.total, status.size) == (ITEMS, ITEMS)
        assert sum(status.counts.values()) == ITEMS
        assert client.batch(batch_id).job(ITEMS - 1).record().index == ITEMS - 1
