"""The commands of `jaas`, a file for each group of them.

A command parses, calls the client and prints. It must not know another group's commands: shared code is one folder up.
"""
