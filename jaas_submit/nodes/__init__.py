"""PURE: what the agent of a node says of it: its engine, the images there, free disk.

It must not know where that is kept, nor what jobs need.
"""
