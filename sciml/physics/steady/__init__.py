"""Steady problems on a square: one field in, the field in equilibrium with it out."""
