"""The Celery app for Flower, and what jaas adds to its pages.

It must not know an engine, and no other room imports it: Flower starts it.
"""
