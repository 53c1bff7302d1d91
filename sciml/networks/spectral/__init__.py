"""Fourier neural operators on grids, explicit, in equilibrium and with a constraint behind them."""
