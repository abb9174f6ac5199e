"""Benchmarks of jaas beside what it is measured against: ``scripts/bench``, or ``python -m benchmarks PART``.

Each part is a module with an object ``PART`` (see ``harness.Part``), named in ``harness.PARTS``:

* ``limit``: against the engine's own limit, a bare loop over its API
* ``others``: against what people use instead
* ``latency``: from submit to the service, and from the container's end to ``wait()``
* ``inflight``: a thousand and ten thousand jobs in flight on a real engine
* ``fleet``: a hundred thousand over ten workers on a simulated one
* ``walls``: what policy and signatures cost
* ``submission``: how quickly one process enqueues, and what a million jobs that wait cost
* ``soak``: whether anything grows over 20,000 jobs

``limit`` and ``others`` measure several contestants in turns, round after round, and compare within a round: the
machine's other work then hits all of them alike, and figures are medians over the rounds. The other parts compare jaas
with a bound, or with itself when idle, within one run.
"""
