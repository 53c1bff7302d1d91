"""Model folders: found, fetched, read and loaded."""
