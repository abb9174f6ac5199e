"""What a job, its record and its result are: fields, limits, states, causes, ids and the names on the wire.

PURE: pydantic alone. It must not know Redis, Celery or Docker, nor how its data is stored, sent or shown.
"""
