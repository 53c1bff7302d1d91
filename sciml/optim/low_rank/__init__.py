"""Optimizers in few directions: GaLore, Natural GaLore and M-FAC."""
