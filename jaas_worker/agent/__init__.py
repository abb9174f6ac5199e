"""Runs on every node: it follows the node's containers, what they print and how they end.

It must not know how jobs are run, and nothing may depend on it: of a node without an agent the worker reads what the
swarm hands out, and hears of exits a little later.
"""
