"""Benchmarks of jaas beside what it is measured against: ``scripts/bench``, or ``python -m benchmarks PART``.

Each part is a module with an object ``PART`` (see ``harness.Part``), named in ``harness.PARTS``:

* ``limit``: against the engine's own limit, a bare loop over its API
* ``others``: against what people use instead
* ``latency``: from submit to the service, and from the container's end to ``wait()``

All of them measure several contestants in turns, round after round, and compare within a round: the machine's other
work then hits all of them alike. Figures are medians over the rounds.
"""
