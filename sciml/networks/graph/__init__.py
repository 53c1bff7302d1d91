"""Networks on graphs: message passing, and layers that solve on the whole graph."""
