"""Checks of what a model is given: arrays, shapes, ranges of training, distances."""
