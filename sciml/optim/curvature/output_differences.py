"""Products with the Jacobian by differences of outputs, where samples have many outputs each.

`sciml.optim.curvature.jacobian` goes back through the network once per output of a sample: exact,
and right for residuals of points and for a few classes. A field on a grid has thousands of outputs.
For

    J v = (f(p + e v) - f(p)) / e + O(e)

two evaluations are enough, whatever their number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm


class Differences:
    """Jacobian of this rank's residuals at the present parameters, for products alone.

    Args:
        objective: The loss; evaluated again for every product.
        terms: Its terms at the present parameters.
        parameters: The parameters, in the order of the vectors.
    """

    def __init__(
        self, objective: Objective, terms: Sequence[LossTerm], parameters: Sequence[Tensor]
    ) -> None:
        self.objective, self.parameters = objective, list(parameters)
        self.terms = [(term, term.outputs.detach()) for term in terms]
        self.start = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def times(self, vector: Sequence[Tensor]) -> Tensor:
        """Return `L^T J v` `(R,)`, float64, L L^T the Hessian of the loss in its outputs.

        Parameters may have moved since; they are put back.
        """
        now = [p.clone() for p in self.parameters]
        size = sum(v.double().square().sum() for v in vector).sqrt()
        scale = sum(s.double().square().sum() for s in self.start).sqrt()
        tiny = torch.finfo(size.dtype).tiny
        # rounding of f and curvature of f weigh the same
        length = torch.finfo(self.start[0].dtype).eps ** 0.5 * (1 + scale) / size.clamp_min(tiny)
        for p, s, v in zip(self.parameters, self.start, vector, strict=True):
            p.copy_(s + (length * v).to(s.dtype))
        moved = [term.outputs for term in self.objective.evaluated()]
        for p, n in zip(self.parameters, now, strict=True):
            p.copy_(n)
        found = [
            term.through_root((new - old).double() / length).flatten() * term.scale**0.5
            for (term, old), new in zip(self.terms, moved, strict=True)
        ]
        return torch.cat(found)
