"""Checks of a problem before training, once, on a handful of points.

`returned` compares shapes at every call. Here is what takes values: a residual that does not depend
on the solution, or on other points of the batch than its own; and declarations that nobody would
read, since a name is misspelt or its partner is missing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sciml.errors import (
    InvalidArgument,
    InvalidType,
    NumericalWarning,
    SciMLWarning,
    nearest,
    one_mistake,
)
from sciml.physics.pde import PDE, Factor, Fields, Points
from sciml.physics.returned import CHECKS

POINTS = 7
ROWS = torch.tensor([5, 2, 3])  # what is asked for again, alone
RESERVED = ("residual", "slope", "interior", "points", "dims", "keep", "candidates", "validation")


def check_problem(problem: PDE) -> None:
    """Look at declarations, names and the residual of a problem.

    Raises:
        InvalidArgument: For what cannot be meant.
        InvalidType: For conditions that are no mapping.

    Warns:
        SciMLWarning: For names of the class that nothing reads and that resemble one of `PDE`'s.
        NumericalWarning: For a residual that mixes the points of a batch without saying so, or is
            not finite.
    """
    _check_names(problem)
    _check_conditions(problem)
    _check_order(problem)
    p = problem.sample(POINTS, torch.Generator().manual_seed(0))
    _check_data(problem, p)
    _check_diffusion(problem, p)
    _check_residual(problem, p)
    for name in problem.conditions:
        _check_condition(problem, name)


def check_answers(problem: PDE) -> None:
    """Look at the reference solution before a training that it would judge.

    Raises:
        InvalidArgument: For values of another shape, not finite, or that depend on other points.
    """
    p = problem.sample_test(POINTS, torch.Generator().manual_seed(0))
    _check_function(f"{type(problem).__name__}.exact()", lambda q: problem.exact(q.x, q.t), p)
    problem.baselines(p)


def _check_data(problem: PDE, p: Points) -> None:
    """Look at points, hard constraint, features and source."""
    name = type(problem).__name__
    for part, value in (("x", p.x), ("t", p.t), ("source", p.source)):
        if value is not None and not bool(value.isfinite().all()):
            raise InvalidArgument(f"{name}.sample().{part} is not finite", "finite numbers")
    functions = {f"lift()[{k}]": lambda q, k=k: problem.lift(q.x, q.t)[k] for k in (0, 1)}
    for f in problem.feature_names:
        functions[f"feature('{f}')"] = lambda q, f=f: problem.feature(f, q.x, q.t)
    # what the sampler filled in need not be computed again
    known = p.source
    functions["source()"] = lambda q: known if q is p and known is not None else problem.source(q.x)
    for title, function in functions.items():
        _check_function(f"{name}.{title}", function, p)


def _check_function(title: str, function: Callable[[Points], Tensor | None], p: Points) -> None:
    """Refuse values that are not finite or depend on other points than their own."""
    with torch.no_grad():
        found = function(p)
        if found is None:
            return
        if not bool(found.isfinite().all()):
            raise InvalidArgument(
                f"{title} is not finite at {int((~found.isfinite()).sum())} of {len(p)} points "
                "of its domain",
                "finite numbers",
            )
        if len(p) < POINTS:  # a reference that is known at few points
            return
        alone = function(p[ROWS])
        mixed = not _close(alone, found[ROWS], found)
        if mixed and not torch.equal(function(p), found):
            return  # random in itself
    if mixed:
        raise InvalidArgument(
            f"{title} at a point depends on the other points it is called with",
            "a function of the point",
            "Write sum(), mean() and norm() with dim=1",
        )


def _own(problem: PDE) -> list[Mapping]:
    """Return what the problem and its classes below `PDE` define, each by itself."""
    classes = type(problem).__mro__
    return [vars(problem), *(vars(cls) for cls in classes[: classes.index(PDE)])]


def _check_names(problem: PDE) -> None:
    for name in sorted(set(CHECKS) & set(vars(problem))):
        raise InvalidArgument(
            f"{type(problem).__name__}.{name} is an attribute of the object",
            "a method of the class: what it returns is checked there",
            f"Write def {name}(self, ...) in the class",
        )
    known = [name for name in vars(PDE) if not name.startswith("_")] + ["dim"]
    for defined in _own(problem):
        for name in sorted(set(defined) - set(known)):
            meant = nearest(name, known)
            if name.startswith("_") or meant is None or meant in defined:
                continue
            if one_mistake(name.lower(), meant):
                warnings.warn(
                    f"{type(problem).__name__}.{name} is read by nothing in sciml. Did you mean "
                    f"'{meant}'? If it is yours, give it a name that differs more.",
                    SciMLWarning,
                    stacklevel=5,
                )


def _check_conditions(problem: PDE) -> None:
    conditions, title = problem.conditions, f"{type(problem).__name__}.conditions"
    if not isinstance(conditions, Mapping):
        raise InvalidType(
            f"{title} of type {type(conditions).__name__}",
            "names with their weights",
            'Write conditions = {"boundary": 1.0}',
        )
    own = {name for names in _own(problem) for name in names}
    defined = [m for m in ("condition_residual", "sample_condition") if m in own]
    if defined and "conditions" not in own:
        raise InvalidArgument(
            f"{type(problem).__name__} defines {'() and '.join(defined)}() and no conditions",
            "the names of its conditions with their weights: no other ones are trained",
            'Write conditions = {"boundary": 1.0} in the class',
        )
    for name, weight in conditions.items():
        if name in RESERVED:
            raise InvalidArgument(
                f"{title} with the name '{name}', which the loss uses itself", "another name"
            )
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not (math.isfinite(weight) and weight >= 0):
            raise InvalidArgument(f"{title}['{name}']={weight!r}", "a finite weight of at least 0")
    if conditions and len(defined) < 2:
        missing = {"condition_residual", "sample_condition"} - set(defined)
        raise InvalidArgument(
            f"{type(problem).__name__} has conditions {list(conditions)} and does not define "
            f"{'() and '.join(sorted(missing))}()",
            "points and a residual for every condition",
            "Add the methods; PDE documents their shapes",
        )


def _check_order(problem: PDE) -> None:
    name = type(problem).__name__
    if problem.time_order not in (1, 2) or problem.order not in (2, 4):
        raise InvalidArgument(
            f"{name} with order={problem.order}, time_order={problem.time_order}",
            "order 2 or 4, time_order 1 or 2",
        )
    if problem.time_order == 2 and not problem.time_dependent:
        raise InvalidArgument(
            f"{name} with time_order=2 and time_dependent=False",
            "a problem in time",
            "Write time_dependent = True",
        )

    for key in ("residual_scale", "final_time", "reference_accuracy"):
        value = getattr(problem, key)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidArgument(
                f"{name}.{key} = {value!r}"[:200],
                "a finite number",
                "Weights that depend on the point belong into the residual",
            )


def _check_diffusion(problem: PDE, p: Points) -> None:
    with torch.enable_grad():
        weights = problem.diffusion(p)
    weights = weights.sigma if isinstance(weights, Factor) else weights
    if weights is not None and weights.requires_grad:
        raise InvalidArgument(
            f"{type(problem).__name__}.diffusion() depends on a parameter, and weights of the "
            "operator are not trained",
            "an operator with known weights",
            "Write the unknown factor into the residual: self.k * u.laplacian",
        )


def _check_residual(problem: PDE, p: Points) -> None:
    """Evaluate the residual on arbitrary fields: no network is needed to see what it depends on."""
    values = _arbitrary(p)
    with torch.enable_grad():
        r = problem.residual(_fields(problem, values), p)
    name = f"{type(problem).__name__}.residual()"
    if not r.requires_grad:
        raise InvalidArgument(
            f"{name} does not depend on the solution u",
            "a function of u.value, u.laplacian or another of its fields",
            "Nothing could be trained: use torch operations on u, without detach or numpy",
        )
    _check_finite(name, r)
    with torch.no_grad():
        r = r.detach()
        part = {key: value[ROWS] for key, value in values.items()}
        alone = problem.residual(_fields(problem, part), p[ROWS])
        turned = values | {"grad": values["grad"].flip(1) * -1}
        other = problem.residual(_fields(problem, turned), p)
        mixed = not problem.mixes_points and not _close(alone, r[ROWS], r)
        if mixed or (problem.squared_gradient_only and not _close(other, r, r)):
            again = problem.residual(_fields(problem, values), p)
            if not torch.equal(again.nan_to_num(), r.nan_to_num()):
                return  # random in itself
    if mixed:
        warnings.warn(
            f"{name} of a point depends on other points of the batch: sum(), mean() or norm() "
            "without dim=1, or (N,) combined with (N, 1)? If it is meant, write "
            "mixes_points = True in the class.",
            NumericalWarning,
            stacklevel=4,
        )
    if problem.squared_gradient_only and not _close(other, r, r):
        raise InvalidArgument(
            f"{name} with squared_gradient_only = True uses more of the gradient than |grad u|^2",
            "a residual in which the gradient enters through its squared norm alone",
            "Write squared_gradient_only = False",
        )


def _check_condition(problem: PDE, name: str) -> None:
    """Evaluate the residual of a condition on arbitrary fields, without second derivatives."""
    q = problem.sample_condition(name, POINTS, torch.Generator().manual_seed(0))
    with torch.enable_grad():
        values = _arbitrary(q) | {"trace": None}
        r = problem.condition_residual(name, _fields(problem, values), q)
    title = f"{type(problem).__name__}.condition_residual() of '{name}'"
    if not r.requires_grad:
        raise InvalidArgument(
            f"{title} does not depend on the solution u",
            "a function of u.value, u.dt or u.grad",
            "Nothing could be trained: use torch operations on u, without detach or numpy",
        )
    _check_finite(title, r)


def _check_finite(title: str, r: Tensor) -> None:
    bad = int((~r.isfinite()).sum())
    if bad:
        warnings.warn(
            f"{title} is not finite in {bad} of {r.numel()} entries where u and its derivatives "
            "are between 0.5 and 1.5: one such point ends a training. Expected finite numbers.",
            NumericalWarning,
            stacklevel=5,
        )


def _arbitrary(p: Points) -> dict[str, Tensor]:
    """Return fields at the points by name, leaves of a graph."""
    generator, n = torch.Generator().manual_seed(1), len(p)
    shapes = {"value": (n,), "trace": (n,), "dt": (n,), "dtt": (n,), "grad": tuple(p.x.shape)}
    return {
        name: (0.5 + torch.rand(*shape, generator=generator)).to(p.x).requires_grad_()
        for name, shape in shapes.items()
    }


def _close(a: Tensor, b: Tensor, whole: Tensor) -> bool:
    """Return whether two results differ by rounding only."""
    finite = whole[whole.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    rtol = 1e4 * torch.finfo(whole.dtype).eps
    return torch.allclose(a, b, rtol=rtol, atol=rtol * scale, equal_nan=True)


def _fields(problem: PDE, values: Mapping[str, Tensor | None]) -> Fields:
    timed, second = problem.time_dependent, problem.time_order == 2
    fields = Fields(
        values["value"],
        values["trace"],
        values["dt"] if timed else None,
        values["dtt"] if second else None,
    )
    fields._gradient = lambda: values["grad"]
    return fields
