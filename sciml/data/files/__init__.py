"""Samples out of files: rows, parts, statistics, grids, point clouds, what a network is told."""
