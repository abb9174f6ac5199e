"""The command line `jaas`: options, output, following, exit codes.

It must not decide anything about jobs: it calls the client and shows the answer. Imports of Celery and Redis wait
for the functions that need them, because `jaas --help` and the TAB key must be quick.
"""
