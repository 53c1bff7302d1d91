"""Command line: composing configurations, checking them, running verbs."""
