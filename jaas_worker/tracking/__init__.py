"""Follows services: asks the swarm for their tasks, hears the engine's events, and says what was seen.

It must not know jobs, the ledger's records or Celery: it is handed services, and its listener decides what follows.
"""
