"""What is said of queues, in Redis, and the jobs that are kept because of it.

It knows the rules (``jaas_submit.queues``) and their keys. It does not know workers, Celery's lists, or the clients.
"""
