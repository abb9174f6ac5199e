"""Files of jobs in the swarm: configs that all jobs with the same content share."""
