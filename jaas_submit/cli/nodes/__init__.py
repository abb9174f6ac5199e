"""Commands that do something on each node."""
