"""PURE: how jobs share the cluster: which waiting job starts next, why the others wait, and when they will start.

``admit`` decides from a ``Snapshot``; workers, the command line, ``expected`` and the simulator all ask it. It does no
I/O and knows neither Redis nor Celery nor Docker: the ledger fills the snapshot and applies what was decided.
"""
