"""Optimizers with Kronecker-factored curvature: K-FAC and MKOR."""
