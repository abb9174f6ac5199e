"""Output while it is written: `jaas` as a process of its own, a real worker with its agent, Redis and swarm."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jaas_submit import Client, JobSpec, LogStatus, Piece
from jaas_submit.output import Feeds
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.usefixtures("worker", "no_service_left")]

EXCEPTIONS_ALLOWED = ("redis.exceptions.", "ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError")

COMMAND = [sys.executable, "-m", "jaas_submit.cli.main"]

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(jaas: Installation) -> Iterator[Start]:
    """Start `jaas` as a shell does."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*args: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        started.append(subprocess.Popen([*COMMAND, *args], stdout=pipe, stderr=pipe, env=jaas.environment()))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_line_is_there_before_the_container_ends(start: Start, client: Client) -> None:
    script = "echo first; trap 'echo last; exit 3' TERM; while :; do sleep 0.05; done"
    process = start("run", "--label", "test=live", TEST_IMAGE, "sh", "-c", script)
    assert process.stdout
    assert process.stdout.readline() == b"first\n"
    (job,) = client.active({"test": "live"})
    eventually(lambda: client.handle(job.id).state == "RUNNING", 30)  # the line may come before
    client.cancel(job.id)
    out, err = process.communicate(timeout=60)
    assert out == b"last\n"
    assert b"missing" not in err


def test_every_byte_arrives(start: Start) -> None:
    """More than JAAS_LOG_LIMIT, no text, and two streams; the job computes the digest itself."""
    script = "head -c 3000000 /dev/urandom > /tmp/x; cat /tmp/x; sha256sum < /tmp/x >&2"
    out, err = start("run", "-q", "--whole", TEST_IMAGE, "sh", "-c", script).communicate(timeout=120)
    assert len(out) == 3_000_000
    assert hashlib.sha256(out).hexdigest().encode() == err.split()[0]


def test_many_short_jobs_lose_nothing(jaas: Installation) -> None:
    done = subprocess.run(
        [*COMMAND, "map", "--logs", "--inputs", "-", TEST_IMAGE, "--", "echo", "said {item}"],
        input="".join(f"{n}\n" for n in range(12)),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=jaas.environment(),
    )
    assert done.returncode == 0
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 12
    shown = [line for line in done.stderr.splitlines() if " | " in line]
    assert sorted(shown) == sorted(f"{n:>2} | said {n}" for n in range(12))


def test_a_retry_is_followed(start: Start) -> None:
    script = "echo attempt $JAAS_ATTEMPT; [ $JAAS_ATTEMPT = 2 ]"
    process = start("run", "--max-attempts", "2", "--backoff", "100ms", TEST_IMAGE, "sh", "-c", script)
    out, err = process.communicate(timeout=120)
    assert (out, process.returncode) == (b"attempt 1\nattempt 2\n", 0)
    assert b"jaas: the output of attempt 2 follows\n" in err


def test_fifty_readers_share_one_feed_and_all_get_everything(client: Client, jaas: Installation) -> None:
    script = "for i in $(seq 200); do echo line $i; sleep 0.01; done"
    handle = client.submit(JobSpec(image=TEST_IMAGE, command=["sh", "-c", script]))
    got: list[bytes] = []

    def follow() -> None:
        with Client(jaas.redis_url, queue=jaas.prefix, prefix=jaas.prefix) as mine:
            found = mine.handle(handle.id).logs(follow=True, timeout=100)
            got.append(b"".join(one.data for one in found if isinstance(one, Piece)))

    readers = [threading.Thread(target=follow) for _ in range(50)]
    for reader in readers:
        reader.start()
    feeds = Feeds(client.ledger.client, client.ledger.prefix)
    eventually(lambda: feeds.wanted([handle.id]), 30)
    assert len(feeds.wanted([handle.id])[handle.id]) == 1
    for reader in readers:
        reader.join(100)
    assert got == [b"".join(b"line %d\n" % n for n in range(1, 201))] * 50


def test_who_misses_lines_over_a_rotation_is_told(start: Start, client: Client) -> None:
    """Engines' followers lose and repeat lines there (moby #37646, #39235); what is read after the exit has all."""
    options = ("--log-opt", "max-size=200k", "--log-opt", "max-file=100", "--log-opt", "compress=false")
    process = start("run", "--whole", *options, TEST_IMAGE, "seq", "100000")
    out, err = process.communicate(timeout=120)
    written = b"".join(b"%d\n" % number for number in range(1, 100_001))
    logs = client.handle(re.findall(r"[0-9a-f-]{36}", err.decode())[0]).logs()
    assert (logs.status, logs.reason) == (LogStatus.COMPLETE, "")
    assert logs.stdout_bytes == written
    assert (process.returncode, b"missing" in err) == ((0, False) if out == written else (125, True)), err


@pytest.mark.parametrize(("away", "lines"), [(2, 120), (31, 120), (31, 900)])
def test_an_outage_of_redis_makes_no_gap_and_no_repeat(
    away: int, lines: int, start: Start, module_redis: OwnRedis
) -> None:
    """After 31 seconds the watch has run out. The job ends meanwhile, or goes on."""
    script = f"for i in $(seq {lines}); do echo line $i; sleep 0.05; done"
    process = start("run", "--whole", TEST_IMAGE, "sh", "-c", script)
    assert process.stdout
    begin = [process.stdout.readline() for _ in range(10)]
    module_redis.kill()
    time.sleep(away)
    module_redis.start()
    rest, err = process.communicate(timeout=120)
    assert b"".join(begin) + rest == b"".join(b"line %d\n" % n for n in range(1, lines + 1)), err
    assert process.returncode == 0


def test_sigterm_leaves_the_job(start: Start, client: Client) -> None:
    process = start("run", "-q", TEST_IMAGE, "sh", "-c", "echo up; trap 'exit 143' TERM; while :; do sleep 0.05; done")
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    job_id = err.decode().split()[2]
    eventually(lambda: client.handle(job_id).state == "RUNNING", 30)  # the line may come first
    client.cancel(job_id)
    client.wait(job_id, 60, check=False)
