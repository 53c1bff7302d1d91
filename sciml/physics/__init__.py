"""Partial differential equations that know an answer, where to sample them and what is trivial."""
