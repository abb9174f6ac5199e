"""On which nodes of the swarm a job fits, and what the others lack.

PURE. It must not ask anybody: the nodes are given to it.
"""
