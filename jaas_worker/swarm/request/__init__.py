"""PURE: the parts of the body of ``POST /services/create``, each made of one part of a job's description."""
