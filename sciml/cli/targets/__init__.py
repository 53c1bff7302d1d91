"""Classes that a configuration names: found, allowed, and of the right kind."""
