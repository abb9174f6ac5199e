"""Runs on a node without a worker: forwards container exits to the worker that holds the job.

It must not know how jobs are run, and nothing may depend on it: without it the swarm reports exits a little later.
"""
