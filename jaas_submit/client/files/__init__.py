"""Files of jobs, at the producer: those that go into a container, and those that came out of it."""
