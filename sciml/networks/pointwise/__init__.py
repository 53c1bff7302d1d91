"""Networks of points: coordinates in, values out, with the conditions of a problem built in."""
