"""Networks of points: coordinates and known features in, values out."""
