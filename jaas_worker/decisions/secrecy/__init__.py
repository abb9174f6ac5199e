"""PURE: known values are kept out of output."""
