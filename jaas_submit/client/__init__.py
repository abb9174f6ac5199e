"""What a producer uses: the two clients, the handles and batches that they return, and how they wait.

The room turns descriptions into records and messages, and records into results. It uses Redis through the ledger only:
it knows no key and no script. It does not know Docker, the worker, or the command line. It prints nothing (except the
progress bar of ``wait(progress=True)``) and decides nothing about a job: the worker does.

From the bottom: ``wait`` has the rules of waiting and does no I/O; a ``Session`` has the connections and carries the
steps out, for threads and for asyncio; handles, batches and map/reduce take a session; only the two clients import
them.
"""
