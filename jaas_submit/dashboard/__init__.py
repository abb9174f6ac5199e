"""The Celery app for Flower.

It must not know an engine, nor be imported by anything else: Flower starts it.
"""
