"""Trial solutions of equations: a network, its inputs and what is built into its outputs."""
