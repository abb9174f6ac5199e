"""Duties that no single job asks for: lost messages, dead workers' jobs, orphan services, slow jobs of batches.

It must not know Celery or the steps of a job: it finds what needs care and hands it over.
"""
