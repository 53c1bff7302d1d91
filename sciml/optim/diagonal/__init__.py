"""Optimizers with a diagonal of the curvature (Sophia, AdaHessian), and Adam for complex weights."""
