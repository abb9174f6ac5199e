"""PURE: a model of the cluster on which the decisions run ahead of time, and what it says about waiting jobs."""
