"""Graphs whose equations have an answer: what convergent graph solvers learn."""
