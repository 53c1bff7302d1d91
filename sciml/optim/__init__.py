"""Optimizers and what a loss tells them."""
