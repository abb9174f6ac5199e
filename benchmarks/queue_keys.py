"""What Redis has to do if the ledger is the only queue: a trial of the keys in decision 007.

Nothing of it is in the product yet. Lines are sorted sets, a snapshot is the beginning of each of them, a script
applies admissions under a condition, and a notice wakes the workers.
"""

from __future__ import annotations

import threading
import time

import redis

from benchmarks.harness import Row, Target, say
from benchmarks.stats import percentile

__all__ = ["queue_keys"]

_FIRST = 25
"""Jobs of each line in a snapshot."""

_APPLY = """
local applied = 0
for n = 2, #ARGV, 2 do
  local line, id = ARGV[n], ARGV[n + 1]
  if redis.call('ZSCORE', 'trial:line:' .. line, id) and tonumber(redis.call('GET', 'trial:group:db') or '0') < 1e9 then
    redis.call('ZREM', 'trial:line:' .. line, id)
    redis.call('INCRBY', 'trial:group:db', 1)
    local use = redis.call('HMGET', 'trial:use', 'jobs', 'cpus', 'used', 'at')
    local kept = 0.5 ^ ((tonumber(ARGV[1]) - tonumber(use[4] or ARGV[1])) / 600)
    redis.call('HSET', 'trial:use', 'jobs', (use[1] or 0) + 1, 'cpus', (use[2] or 0) + 0.5,
      'used', (use[3] or 0) * kept, 'at', ARGV[1])
    redis.call('HSET', 'trial:job:' .. id, 'state', 'LAUNCHING', 'holder', 'w', 'attempt', 1)
    redis.call('ZADD', 'trial:state:LAUNCHING', ARGV[1], id)
    applied = applied + 1
  end
end
return applied
"""


def queue_keys(url: str, *, waiting: int, lines: int, repeats: int) -> list[Row]:
    """Measure on a Redis whose content may be lost; the keys are deleted in the end.

    Args:
        url: the server.
        waiting: how many jobs wait.
        lines: in how many lines.
        repeats: how often each is measured.
    """
    say(f"bench: queues: {waiting} members in {lines} sorted sets")
    with redis.Redis.from_url(url) as server:
        try:
            before = int(server.info("memory")["used_memory"])
            each = waiting // lines
            for line in range(lines):
                for first in range(0, each, 1000):
                    places = range(first, min(first + 1000, each))
                    server.zadd(f"trial:line:{line}", {_job(line, place): 1e9 + place for place in places})
            size = (int(server.info("memory")["used_memory"]) - before) / max(each * lines, 1)
            case = f"{waiting:,} jobs wait in {lines:,} lines"
            read, wake = _reads(server, lines, repeats), _wakes(url, server, 20, repeats)
            applied = [1000 * one for one in _applies(server, lines, repeats)]
            return [
                Row(case, "index", "bytes/job", size, (), None, "its place in line alone; the record is apart"),
                Row.median(
                    case, "read a snapshot", "ms", read, None, f"the first {_FIRST} of each line, one round trip"
                ),
                Row.median(case, "apply 100 admissions", "ms", applied, None, "one script"),
                Row("a notice wakes 20 workers", "each, p50", "ms", percentile(wake, 50), tuple(wake)),
                Row("a notice wakes 20 workers", "each, p99", "ms", percentile(wake, 99), (), Target("<=", 50)),
            ]
        finally:
            for key in server.scan_iter("trial:*", count=10_000):
                server.unlink(key)


def _job(line: int, place: int) -> str:
    return f"{line:012x}{place:012x}"


def _reads(server: redis.Redis, lines: int, repeats: int) -> list[float]:
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        pipe = server.pipeline(transaction=False)
        for line in range(lines):
            pipe.zrange(f"trial:line:{line}", 0, _FIRST - 1, withscores=True)
            pipe.zcard(f"trial:line:{line}")
        pipe.execute()
        took.append(1000 * (time.perf_counter() - started))
    return took


def _applies(server: redis.Redis, lines: int, repeats: int) -> list[float]:
    script, took = server.register_script(_APPLY), []
    for number in range(repeats):
        args: list[str | float] = [1e9 + number]
        for place in range(100):
            line = (number * 100 + place) % lines
            args += [f"{line}", _job(line, (number * 100 + place) // lines)]
        started = time.perf_counter()
        script(args=args)
        took.append(time.perf_counter() - started)
    return took


def _wakes(url: str, server: redis.Redis, workers: int, repeats: int) -> list[float]:
    """Return for each notice and each of some subscribers how many milliseconds passed until it had it."""
    took: list[float] = []
    ready, lock = threading.Barrier(workers + 1), threading.Lock()

    def listen() -> None:
        with redis.Redis.from_url(url) as own, own.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe("trial:available")
            channel.get_message(ignore_subscribe_messages=False, timeout=10)
            ready.wait()
            seen = 0
            while seen < repeats:
                if message := channel.get_message(timeout=10):
                    passed = 1000 * (time.perf_counter() - float(message["data"]))
                    seen += 1
                    with lock:
                        took.append(passed)

    threads = [threading.Thread(target=listen, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    ready.wait()
    for _ in range(repeats):
        server.publish("trial:available", f"{time.perf_counter()!r}")
        time.sleep(0.02)
    for thread in threads:
        thread.join(30)
    return took
