"""PURE: what a job may ask of its container as `docker service create` does. One table names each option once."""
