"""Model folders written: weights, description, and the card for people."""
