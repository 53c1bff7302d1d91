"""Data modules over problems."""
