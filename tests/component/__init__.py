"""Tests of one room with what it needs for real: Redis, threads, sockets. No containers, no worker process."""
