"""The Celery app for Flower.

It must not know an engine, and no other room imports it: Flower starts it.
"""
