"""What a worker reports about itself: log, metrics, traces.

It must not know its callers, and a failure here must not affect a job.
"""
