"""PURE: what each kind of program may do in Redis, and the ACL rules that say so.

It must not know Redis: it names keys, channels and commands, and connects nowhere.
"""
