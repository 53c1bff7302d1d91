"""Derivatives of solutions: implicit, unrolled, and through a reversible iteration."""
