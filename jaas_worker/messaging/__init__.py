"""Celery in the worker: pool, consumer, deliveries, transport, result backend, remote control.

It must not know the swarm or the steps of a job: it hands deliveries to the runner and results to Celery.
"""
