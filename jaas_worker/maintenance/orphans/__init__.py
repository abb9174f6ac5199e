"""What jobs leave behind in the swarm: services that no worker follows, and configs with inputs."""
