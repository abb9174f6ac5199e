"""Flower's settings in stack.yml (a swarm config). Flower reads this file as Python."""

from pathlib import Path

# Whoever reaches Flower may cancel jobs and, by its API, submit tasks: it never runs without a password. The secret
# holds user:password; more users are further lines.
basic_auth = Path("/run/secrets/jaas_flower_auth").read_text(encoding="utf-8").split()
if not basic_auth or not all(":" in line for line in basic_auth):
    raise SystemExit("the secret jaas_flower_auth must hold user:password")

port = 5555
persistent = True
db = "/data/flower"
state_save_interval = 60_000  # milliseconds; without it the state is saved at a clean shutdown only
max_tasks = 20_000  # in memory; the ledger has all of them
purge_offline_workers = 600  # seconds; each restart of a worker is a new worker to Flower
# kwargs: image and command of the job. result: where it runs, then how it ended.
tasks_columns = "name,uuid,state,kwargs,result,received,started,runtime,worker"
