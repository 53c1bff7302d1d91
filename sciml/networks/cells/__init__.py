"""Operators that are the homogenised law of a periodic cell."""
