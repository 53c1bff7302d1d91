"""What a function that is written once takes: numbers, or numbers that carry their derivatives.

A hard constraint, a feature or a network is written with torch operations and works on all four:

    def lift(self, x: Differentiable, t: Differentiable | None) -> tuple[Tensor | Jet, None]:
        return 1 - squared_norm(x), None
"""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

from sciml.autodiff.coordinates import Coordinates
from sciml.autodiff.jet import Jet
from sciml.autodiff.multijet import MultiJet

Carrying: TypeAlias = Jet | MultiJet | Coordinates
Differentiable: TypeAlias = Tensor | Carrying
