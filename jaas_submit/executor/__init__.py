"""Python functions in containers: a ``concurrent.futures.Executor`` whose calls are jobs.

It uses the client as any program does, and knows neither Redis nor Celery. ``in_container`` is the one module that does
not run here: its text is sent along, and it may use the standard library alone.
"""
