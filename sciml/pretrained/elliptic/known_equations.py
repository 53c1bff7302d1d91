"""Checks that a problem is one of the equations that an elliptic operator was trained for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Domain, Reflecting

COEFFICIENTS = ("screening", "diffusion")


def check_problem(inputs: Mapping, dim: int, domain: Domain, problem: Dirichlet) -> Dirichlet:
    """Return the problem without what is zero, or refuse one that is not the operator's.

    Args:
        inputs: The operator's schema.
        dim: Its d.
        domain: B domains.
        problem: Their equation.

    Raises:
        InvalidArgument: For another dimension, other boundary conditions or coefficients.
        InvalidType: If these are no domain and no equation.
    """
    if isinstance(domain, Reflecting) or (
        hasattr(problem, "flux") and not isinstance(problem, Dirichlet)
    ):
        raise InvalidArgument(
            f"a {type(domain).__name__} with a {type(problem).__name__} problem",
            "u = g on all of the boundary",
            "Operators know no Neumann data: use sciml.physics.WalkOnStars",
        )
    if not isinstance(domain, Domain) or not isinstance(problem, Dirichlet):
        raise InvalidType(
            f"solve({type(domain).__name__}, {type(problem).__name__}, ...)",
            "a domain of sciml.physics.geometry and a Dirichlet",
            "For arrays use predict",
        )
    if domain.dim != dim:
        raise InvalidArgument(f"domains in {domain.dim} dimensions", f"{dim}, as the operator has")
    changed = {}
    for name in COEFFICIENTS:
        value, known = getattr(problem, name), name in inputs
        if name == "screening" and _zero(value):
            value = None
        if value is None and name == "screening" and known:
            raise InvalidArgument("no screening", "a positive one", "Use wos_poisson2d without")
        if value is None and name == "diffusion" and known:
            value = _one
        if value is not None and not known and name == "screening":
            raise InvalidArgument(
                "a screening", "none: the operator does not know it", "Use wos_screened2d"
            )
        changed[name] = value
    if problem.source is not None and "source" not in inputs:
        raise InvalidArgument("a source", "none: the operator was trained without")
    return Dirichlet(problem.boundary, problem.source, reduced=problem.reduced,
                     bound=problem.bound, **changed)  # fmt: skip


def _zero(value: object) -> bool:
    return value is not None and not callable(value) and bool((torch.as_tensor(value) == 0).all())


def _one(x: Tensor, i: Tensor) -> Tensor:
    return torch.ones_like(x[0])
