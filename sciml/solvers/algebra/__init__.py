"""Linear systems known by their products or as small dense matrices, a batch at once."""
