"""From arrays of files to samples: what is input and output, what trains, statistics."""
