"""Graphs as data: drawn while training, or given sets with their folds."""
