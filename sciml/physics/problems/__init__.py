"""Partial differential equations of one unknown, with reference solutions."""
