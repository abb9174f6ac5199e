"""Queues as named things, for producers and operators: what ``Client.queues`` and ``AsyncClient.queues`` are.

It asks the ledger for what is said of a queue, and Redis for the length of Celery's lists. It knows no jobs.
"""
