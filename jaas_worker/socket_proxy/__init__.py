"""`jaas socket-proxy`: stands before an engine's socket and lets through what a worker and an agent need, and no more.

It must not know Redis, records or messages: what a worker says is not believed, only compared with the policy and with
what the engine says.
"""
