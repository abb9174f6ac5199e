"""PURE: what follows from known facts. Each decision is a function with a table test: no I/O, no threads, no clock.

It must not know Redis, Celery, Docker or sockets; facts and the present moment are arguments.
"""
