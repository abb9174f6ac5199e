"""Follows services: asks the swarm for their tasks, receives the engine's events, and reports what was seen.

It must not know jobs, the ledger's records or Celery: it gets services, and its listener decides what follows.
"""
