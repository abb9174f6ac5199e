"""On which nodes of the swarm a job fits, and why not on the others.

PURE. It does no I/O: the nodes are arguments.
"""
