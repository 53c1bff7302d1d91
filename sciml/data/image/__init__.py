"""Public image sets as data."""
