"""The commands of `jaas` about queues, and about jobs that wait in them."""
