"""Submitting a batch, one job for each input, and reduces over its outputs. It must not know handles and clients."""
