"""Verbs of `sciml` that train nothing: predict, simulate, inspect, list, export-data."""
