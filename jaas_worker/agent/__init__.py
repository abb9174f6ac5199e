"""What runs on a node without a worker: it forwards the ends of containers to the worker that holds the job.

It must not know how jobs are run, and nothing may depend on it: without it the swarm's word comes a little later.
"""
