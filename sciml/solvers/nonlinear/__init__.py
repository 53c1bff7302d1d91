"""Iterations for fixed points, roots, minima and least squares, a batch at once."""
