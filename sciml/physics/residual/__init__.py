"""From a trial solution to residuals, and what can be wrong with a problem."""
