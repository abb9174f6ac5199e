"""The Celery messages of jobs: how they are made, published and made again, and their result backend.

It must not know the ledger: a message says that there is work, the record has the description.
"""
