"""Which classes a model folder may name, and objects made from their descriptions."""
