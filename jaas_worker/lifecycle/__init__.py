"""One job's life in this worker, from the message to the report.

A job's life is made of steps: plain functions that take the job and the worker's context, and return the next step
(``next_step.py``). They never call each other, start no threads and repeat nothing: ``StepExecutor`` does both.

It must not know Celery: a received message is a ``Delivery``. It must not know cluster-wide duties either.
"""
