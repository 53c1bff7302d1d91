"""Optimizers with a diagonal: of the curvature (Sophia, AdaHessian); Adam in complex numbers."""
