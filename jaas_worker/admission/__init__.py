"""Whether a job's request may go to the engine: the policy, and what the swarm says of the things in the request.

It must not know jobs' lives, records or messages.
"""
