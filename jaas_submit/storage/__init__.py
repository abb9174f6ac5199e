"""Values too large for Redis, in a store that a URL names.

It must not know jobs: it keeps bytes and gives them back.
"""
