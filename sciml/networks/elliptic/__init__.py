"""Operators of elliptic problems on varying domains, on grids and on clouds of points."""
