"""The flags by which `jaas run` says what a container gets, as docker spells them. Prints and sends nothing."""
