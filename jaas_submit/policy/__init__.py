"""What jobs may ask for: the policy's document, its levels, and the check of a finished request against them.

PURE: it reads texts that it is given, and it knows neither Docker's client nor Redis. The request is the body of the
engine's ``POST /services/create`` as plain values.
"""
