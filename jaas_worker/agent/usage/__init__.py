"""What the containers of a node use: processor time, memory, bytes read, written, sent and received.

It must not know Redis. The kernel's counters are read where this process sees them, else the engine is asked.
"""
