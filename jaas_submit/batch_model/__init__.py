"""How one description becomes many jobs: templates, batch files and the JSON Schemas of both.

PURE. It must not know where jobs are stored or who submits them.
"""
