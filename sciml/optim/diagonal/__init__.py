"""Optimizers with a diagonal of the curvature: Sophia and AdaHessian."""
