"""Operators and solutions of elliptic problems: solving, placing, correcting by walks."""
