"""A fuzzer for all that arrives: messages, records and notices. docs/guarantees.md says what it promises.

    python -m tests.fuzz --minutes 30 --seed 7         all levels, until the time is over
    python -m tests.fuzz --seed 7 --case worker:4711   one case again, with what it was made of

A case is a valid specimen with one to three mutations, both drawn from ``Random(seed:level:number)``: it is the same
wherever, whenever and after whichever cases it runs. The levels:

* ``pure``: descriptions, durations, sizes, messages and forwarded ends, in this process;
* ``ledger``: poisoned keys in a Redis, read by clients and by a reconciler;
* ``worker``: queue entries, broadcasts and notices for a real worker process, between good jobs.
"""
