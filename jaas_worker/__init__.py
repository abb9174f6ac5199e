"""jaas on the manager side: runs each job as one swarm service and follows it to its end."""
