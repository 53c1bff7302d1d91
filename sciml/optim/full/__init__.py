"""Optimizers with full curvature: energy natural gradients, Gauss-Newton, quasi-Newton."""
