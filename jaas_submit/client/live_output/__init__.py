"""Following the output of jobs while they run: attempt after attempt, and from the ledger what was not live.

It is PURE like ``wait``: its generators of steps are carried out by the sessions.
"""
