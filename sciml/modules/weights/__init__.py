"""Weights of terms and rows of a loss that follow from the residuals."""
