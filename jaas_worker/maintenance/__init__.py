"""Cluster-wide duties: lost messages, dead workers' jobs, orphan services, slow jobs of batches.

It must not know Celery or the steps of a job: it finds the jobs and hands them over.
"""
