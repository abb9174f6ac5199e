"""Files of ended containers: an agent reads and sends them, and the worker that holds the job stores them.

Nothing is run in a container, and no file is written on a node: bytes go from the engine through Redis to the store.
"""
