"""What makes many jobs out of one description: templates, batch files and the JSON Schemas of both.

PURE. It must not know where jobs are stored or who submits them.
"""
