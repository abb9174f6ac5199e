"""Flower's settings for jaas, in stack.yml (a swarm config) and elsewhere: `flower --conf=docker/flowerconfig.py`.

Flower reads this file as Python, after its FLOWER_... variables and before its command line.
"""

import os
from pathlib import Path

# A user of Flower can cancel jobs and, by its API, submit tasks: Flower never runs without a password. The secret has
# one line user:password for each user.
secret = Path(os.environ.get("JAAS_FLOWER_AUTH_FILE", "/run/secrets/jaas_flower_auth"))
if not os.environ.get("FLOWER_AUTH"):  # OAuth
    try:
        users = os.environ.get("FLOWER_BASIC_AUTH") or secret.read_text(encoding="utf-8")
    except OSError:
        users = ""
    basic_auth = users.replace(",", " ").split()
    if not basic_auth or not all(":" in line for line in basic_auth):
        raise SystemExit(f"flower: no password: {secret} or FLOWER_BASIC_AUTH must hold user:password")
    if not all(line.isascii() for line in basic_auth):  # Flower could not compare it
        raise SystemExit(f"flower: {secret} or FLOWER_BASIC_AUTH must hold ASCII characters only")

port = int(os.environ.get("FLOWER_PORT", "5555"))
persistent = True
db = os.environ.get("FLOWER_DB", "/data/flower")
state_save_interval = 60_000  # milliseconds; 0 would save the state only at a clean shutdown
max_tasks = 20_000  # in memory, 4 KB each; the ledger has all of them
purge_offline_workers = 600  # seconds; to Flower, each restart of a worker is a new worker
# kwargs: name, image, command and batch of the job; there are no args. result: node and attempt; at the end exit code,
# cause and reason.
tasks_columns = "state,uuid,kwargs,result,received,started,runtime,worker"
