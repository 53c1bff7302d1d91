"""What a loss tells of its curvature: terms, recorded layers, Jacobians, per-sample gradients."""
