"""Optimizers that know nothing but losses: CBO, DeepZero and PolyStep."""
