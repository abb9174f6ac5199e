"""Why a job waits, or why it ended, in plain words.

It must not know Redis keys: it asks the ledger for facts and combines them.
"""
