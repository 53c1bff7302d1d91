"""Initial value problems: integrators, their adjoints and a stiff solver."""
