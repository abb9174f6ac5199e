"""A hundred thousand jobs in flight over ten workers, on a simulated engine."""

from __future__ import annotations

from benchmarks.harness import Options, Row
from benchmarks.home import home
from benchmarks.inflight import draw, measure, rows_of
from benchmarks.simulator import simulator

__all__ = ["PART"]

_WORKERS = 10
_LEVELS = (0, 10_000, 25_000, 50_000, 100_000)


class _Fleet:
    name = "fleet"
    title = "A hundred thousand jobs in flight, ten workers, a simulated engine"
    caveats = (
        "The engine is simulated (benchmarks/simulator.py): the same API and answers of the same size, held to a real "
        "engine by the same tests, but no raft log, no scheduler and no containers. Its processor time is its own.",
        "It tells what workers and Redis cost; that a real swarm holds so many services it does not tell.",
        "All of it shares this machine's processors: times under load are longer than on machines of their own.",
    )

    def run(self, options: Options) -> list[Row]:
        """Measure ten workers on one simulated engine of a hundred nodes."""
        levels, count = ((0, 10), 2) if options.short else (_LEVELS, _WORKERS)
        with (
            simulator(options.out, nodes=100) as (host, engine),
            home(options, host, max_in_flight=max(levels) // count + 100) as (made, first),
        ):
            workers = [first, *(made.worker(f"{made.prefix}-{number}") for number in range(2, count + 1))]
            for worker in workers[1:]:
                worker.start()
            found = measure(made, workers, levels, 1 if options.short else 20, 0.5 if options.short else 60, [engine])
        draw(options.out / "fleet.svg", f"{count} workers, a simulated engine", found)
        return rows_of("simulated engine", found, count)


PART = _Fleet()
