"""The checks of `jaas doctor` that need no engine: Redis, Sentinel, workers, queues, Flower.

It must not change anything, and must not print: it returns what it found.
"""
