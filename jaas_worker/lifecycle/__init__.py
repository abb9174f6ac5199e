"""One job's life in this worker, from the message to the report.

A job's life is made of steps: plain functions that take the job and the worker's context, and return what comes next
(``next_step.py``). They never call each other and know neither threads nor repetition: ``StepExecutor`` has both.

It must not know Celery: a received message is a ``Delivery``. Nor must it know the duties of the whole cluster.
"""
