"""Reference values of problems: quadrature, radial solvers, and what costs nothing."""
