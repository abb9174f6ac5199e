"""What an agent keeps of a container's output: head and tail in bounded memory, counts and digests.

It knows neither engine nor Redis.
"""
