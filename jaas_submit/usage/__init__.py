"""PURE: what many jobs used together, by image, label, queue or batch.

It must not know where records are kept: it takes them one by one, in bounded memory.
"""
