"""PURE: files that go into a container and come out of it: patterns, names, and what is said of them."""
