"""What a worker tells about itself: log, metrics, traces.

It must not know who calls it, and a failure here must not touch a job.
"""
