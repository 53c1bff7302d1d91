"""Image classifiers whose features are an equilibrium or the end of a flow."""
