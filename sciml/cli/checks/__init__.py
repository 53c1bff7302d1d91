"""Checks of a composed configuration: values, and parts that must fit each other."""
