"""PURE: what the queues would have done with a trace of jobs, and what changes would do to them.

It replays a trace through the decisions of `queues`, on their model of a cluster. It reads no file and knows no ledger.
"""
