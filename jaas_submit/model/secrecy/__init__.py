"""PURE: what a job says of values that nobody may read: the names of secrets, never their values."""
