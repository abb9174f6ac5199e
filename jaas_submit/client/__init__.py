"""What a producer uses: the two clients, the handles and batches that they return, and how they wait.

The room turns descriptions into records and messages, and records into results. It talks to Redis through the ledger
only: it knows no key and no script. It knows nothing of Docker, of the worker, or of the command line, prints nothing
(but the progress bar that ``wait(progress=True)`` asks for), and decides nothing about a job: that is the worker's.

From the bottom: ``wait`` says how to wait and does no I/O; a ``Session`` has the connections and carries that out, for
threads and for asyncio; handles, batches and map/reduce take a session; only the two clients import them.
"""
