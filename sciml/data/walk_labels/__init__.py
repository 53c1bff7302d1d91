"""Elliptic problems whose labels are walks on spheres, on grids and clouds."""
