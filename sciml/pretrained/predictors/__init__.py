"""Loaded models: predict, roll out, export."""
