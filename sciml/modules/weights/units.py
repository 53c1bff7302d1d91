"""A warning where the terms of a loss are so unlike in size that only one of them is trained.

Values in kelvin or lengths in millimetres make an equation and its conditions differ by many orders
of magnitude: with u between 300 and 400 on a unit square, -lap u = 0 is satisfied by any constant
long before its boundary values are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sciml.optim.curvature.terms import LossTerm
from sciml.physics.systems import Observed

if TYPE_CHECKING:
    from sciml.modules.system_pinn import PINN

FACTOR = 1e7  # of the losses, so three to four decades of the residuals


class UnlikeTerms(UserWarning):
    """Terms of a loss differ so much in size that the smaller ones are not trained."""


def warn_of_units(module: PINN, terms: Sequence[LossTerm]) -> None:
    """Warn in the first step where equations and conditions differ by orders of magnitude.

    Observations, which are in units of their noise, are left out, and so are balanced terms.

    Args:
        module: Whose terms they are.
        terms: With their weights.
    """
    if module.global_step or module.balance != "none":
        return
    system = module.problem
    equations = system.term_names[: system.equation_count]
    data = [name for name, c in system.terms.items() if isinstance(c, Observed)]
    sizes = {t.name: t.loss().detach() for t in terms if t.name.partition(".")[0] not in data}
    if not sizes:
        return
    values = dict(zip(sizes, torch.stack(list(sizes.values())).tolist(), strict=True))
    inside = {name: value for name, value in values.items() if name in equations}
    others = {name: value for name, value in values.items() if name not in equations}
    if not inside or not others:
        return
    first = max(inside, key=inside.__getitem__)
    small, large = min(others, key=others.__getitem__), max(others, key=others.__getitem__)
    a = inside[first]
    second = large if others[large] > FACTOR * a else small
    b = others[second]
    if not (0 < a < float("inf") and 0 < b < float("inf")) or 1 / FACTOR < a / b < FACTOR:
        return
    warnings.warn(
        f"The loss of the equation '{first}' begins at {a:.1e}, that of the condition '{second}' "
        f"at {b:.1e}: the smaller one will hardly be trained. Expected terms within a few orders "
        "of magnitude. Write balance='gradnorm' (module.balance=gradnorm); for values far from one "
        "scales = {'<output>': (middle, size)} in the class; or lengths in units of the domain",
        UnlikeTerms,
        stacklevel=2,
    )
