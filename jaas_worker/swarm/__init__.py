"""The engine: requests, answers, the service of an attempt, its output. One module imports docker.

It must not know the ledger or the life of a job: it carries out requests and raises errors of jaas.
"""
