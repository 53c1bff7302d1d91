"""What the methods of a problem must return, checked wherever they are called.

`PDE` puts these checks around the methods of its subclasses, so that training, evaluation, walks,
tests and loops of one's own all pass them. Shapes are compared at every call, which is free;
the first call with two points or more is watched from inside for `(N,)` combined with `(N, 1)`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import check_call, check_returned, check_tensor, no_outer_products

PER_POINT = "one number per point"
COLUMN = "a column, one number per point"


def residual(title: str, out: Any, problem: Any, /, u: Any, p: Any) -> None:
    """R `(N,)`."""
    check_returned(title, out, (len(p),), like=p.x, what=PER_POINT)


def condition_residual(title: str, out: Any, problem: Any, /, name: str, u: Any, p: Any) -> None:
    """`(M,)` or `(M, m)` where the N points come in M groups of equal size, mostly M = N."""
    title, n = f"{title} of '{name}'", len(p)
    wanted = f"a tensor ({n},) or ({n}, m), one row per point or per pair of points"
    check_tensor(title, out, wanted)
    shape = tuple(out.shape)
    rows = shape[0] if shape else 0
    if len(shape) not in (1, 2) or (n % rows if rows else n):
        raise InvalidArgument(f"{title} returned shape {shape}", wanted, _not_rows(shape))
    if shape == (n, n) and n > problem.dim + 1:
        raise InvalidArgument(f"{title} returned shape {shape}", wanted, _not_rows((n, n)))


def _not_rows(shape: tuple[int, ...]) -> str:
    if not shape:
        return "Leave means and sums over the points to the loss"
    return "Write p.t[:, 0] for p.t and p.x[:, 0] for p.x[:, :1]: (N,) and (N, 1) broadcast"


def values(title: str, out: Any, problem: Any, /, x: Tensor, t: Tensor | None = None) -> None:
    """A function of points `(N,)`: exact."""
    check_returned(title, out, (len(x),), like=x, what=PER_POINT)


def source(title: str, out: Any, problem: Any, /, x: Tensor) -> None:
    """`(N,)` or None."""
    if out is not None:
        check_returned(title, out, (len(x),), like=x, what=PER_POINT)


def source_gradient(title: str, out: Any, problem: Any, /, p: Any) -> None:
    """`(N, d)` or 0.0."""
    if not isinstance(out, float):
        check_returned(title, out, tuple(p.x.shape), like=p.x, what="the gradient at every point")


def lift(title: str, out: Any, problem: Any, /, x: Any, t: Any) -> None:
    """Two of: None, a column `(N, 1)`. Also for jets."""
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise InvalidType(
            f"{title} returned {_described(out)}",
            "two values (A, B) of u = A n + B, each None or (N, 1)",
            "Write return a, None",
        )
    for letter, part in zip("AB", out, strict=True):
        if part is not None:
            what = f"{COLUMN}: {letter} of u = A n + B"
            check_returned(f"{title} for {letter}", part, (x.shape[0], 1), what=what)


def feature(title: str, out: Any, problem: Any, /, name: str, x: Any, t: Any) -> None:
    """A column `(N, 1)`. Also for jets."""
    check_returned(f"{title} of '{name}'", out, (x.shape[0], 1), what=COLUMN)


def diffusion(title: str, out: Any, problem: Any, /, p: Any) -> None:
    """None, `(d,)`, `(N, d)`, or a Factor of `(d, m)` or `(N, d, m)`."""
    if out is None:
        return
    n, d = p.x.shape
    factor = hasattr(out, "sigma")
    tensor = out.sigma if factor else out
    wanted = f"None, ({d},), ({n}, {d}) or a Factor of ({d}, m) or ({n}, {d}, m)"
    check_tensor(title, tensor, wanted)
    shape = tuple(tensor.shape)
    lead = shape[:-1] if factor else shape
    if lead not in ((d,), (n, d)) or (factor and len(shape) < 2):
        hint = ""
        if shape in ((n,), (n, 1)):
            hint = f"Write a column per coordinate: weights.reshape(-1, 1).expand(-1, {d})"
        raise InvalidArgument(f"{title} returned shape {shape}", wanted, hint)


def lift_terms(title: str, out: Any, problem: Any, /, p: Any) -> None:
    """None, or numbers per point; `direction` also `(N, d)`."""
    if out is None:
        return
    n = len(p)
    for field in ("value", "trace", "direction", "dt", "offset", "offset_dt", "offset_trace"):
        part = getattr(out, field)
        if part is None or (field == "direction" and tuple(part.shape) == tuple(p.x.shape)):
            continue
        check_returned(f"{title}.{field}", part, (n,), like=p.x, what=PER_POINT)


def baselines(title: str, out: Any, problem: Any, /, p: Any) -> None:
    """Numbers per point, by name."""
    for key, part in out.items():
        check_returned(f"{title}['{key}']", part, (len(p),), like=p.x, what=PER_POINT)


def constant_basis(title: str, out: Any, problem: Any, /, p: Any) -> None:
    """Two tensors `(N,)`."""
    for part in out:
        check_returned(title, part, (len(p),), like=p.x, what=PER_POINT)


def sample(title: str, out: Any, problem: Any, /, n: int, generator: torch.Generator) -> None:
    """Exactly n points."""
    points(title, out, problem)
    if len(out) != n:
        raise InvalidArgument(
            f"{title} returned {len(out)} points where {n} were asked for",
            f"{n} points",
            "Draw until there are enough: sciml.physics.samplers has balls, boxes and shells",
        )


def sample_test(title: str, out: Any, problem: Any, /, n: int, generator: torch.Generator) -> None:
    """Points, at least one; a reference may be known at few."""
    points(title, out, problem)
    if not len(out):
        raise InvalidArgument(f"{title} returned no points", "at least one")


def sample_condition(
    title: str, out: Any, problem: Any, /, name: str, n: int, generator: torch.Generator
) -> None:
    """Points, at least one; a condition may have fewer than asked for."""
    title = f"{title} of '{name}'"
    points(title, out, problem)
    if not len(out):
        raise InvalidArgument(f"{title} returned no points", "at least one")


def moved(title: str, out: Any, problem: Any, /, p: Any) -> None:
    """As many points as came."""
    points(title, out, problem)


def points(title: str, out: Any, problem: Any) -> None:
    """Refuse points that a network would misread."""
    if not all(hasattr(out, part) for part in ("x", "t", "source")):
        raise InvalidType(f"{title} returned {_described(out)}", "Points", "Write Points(x, t)")
    n = check_columns(f"{title}: x", out.x, problem.dim)
    if problem.time_dependent:
        if out.t is None:
            raise InvalidArgument(
                f"{title}: points without t",
                "a time (N, 1): the problem is time_dependent",
                "Write Points(x, t)",
            )
        check_returned(f"{title}: t", out.t, (n, 1), like=out.x, what="a column of times")
    elif out.t is not None:
        raise InvalidArgument(
            f"{title}: points with a time, which nothing would see",
            "t=None: the problem is static",
            "Write time_dependent = True in the class, or leave t out",
        )
    if out.source is not None:
        check_returned(f"{title}: source", out.source, (n,), like=out.x, what=PER_POINT)


def check_columns(name: str, x: Any, dim: int) -> int:
    """Return N of coordinates `(N, d)`."""
    wanted = f"a tensor (N, {dim}), one row per point"
    check_tensor(name, x, wanted)
    if x.dim() != 2 or x.shape[1] != dim:
        hint = "Write x[:, None]" if x.dim() == 1 and dim == 1 else ""
        raise InvalidArgument(f"{name} has shape {tuple(x.shape)}", wanted, hint)
    return len(x)


def _described(out: Any) -> str:
    shape = getattr(out, "shape", None)
    return f"a {type(out).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")


CHECKS: dict[str, Callable[..., None]] = {
    "residual": residual,
    "condition_residual": condition_residual,
    "exact": values,
    "source": source,
    "source_gradient": source_gradient,
    "lift": lift,
    "lift_terms": lift_terms,
    "feature": feature,
    "diffusion": diffusion,
    "baselines": baselines,
    "constant_basis": constant_basis,
    "sample": sample,
    "sample_test": sample_test,
    "sample_condition": sample_condition,
    "moved": moved,
}
# How they are called.
ARGUMENTS = {
    name: ", ".join(list(inspect.signature(check).parameters)[3:]) for name, check in CHECKS.items()
}
# Random points are made, not combined; jets and weights of the operator have axes of their own.
WATCHED = frozenset(CHECKS) - {"sample", "sample_test", "sample_condition", "moved"}


def checked(method: Callable, name: str) -> Callable:
    """Return the method of a problem with the check of what it returns around it."""
    check = CHECKS[name]

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        title = f"{type(self).__name__}.{name}()"
        if name not in (called := vars(self).setdefault("_called", set())):
            check_call(title, method, f"(self, {ARGUMENTS[name]})", self, *args, **kwargs)
            called.add(name)
        if name in WATCHED and _first(self, name, args, kwargs):
            with no_outer_products(title, _rows([*args, *kwargs.values()])):
                out = method(self, *args, **kwargs)
        else:
            out = method(self, *args, **kwargs)
        check(title, out, self, *args, **kwargs)
        return out

    wrapper.is_checked = True
    return wrapper


def _first(problem: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether this is a method's first call with two points, and take note of it."""
    if torch.compiler.is_compiling():
        return False
    seen = vars(problem).setdefault("_watched", set())
    term = args[0] if args else kwargs.get("name")
    key = (name, term) if isinstance(term, str) else name
    if key in seen or _rows([*args, *kwargs.values()]) < 2:
        return False
    seen.add(key)
    return True


def _rows(arguments: list) -> int:
    """Return the number of points among the arguments of a method, 0 where there are none."""
    for a in arguments:
        x = getattr(a, "x", a)  # Points come with x, as do coordinates of jets
        if isinstance(x, Tensor) and x.dim() == 2:
            return len(x)
    return 0
