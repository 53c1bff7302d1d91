"""What a newcomer leaves out or misspells: said in words before any training.

Nothing is missing where the ansatz is written by hand (`hard`) or where data take the place of
conditions (`Observed`).
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sciml.autodiff.multi_indices import MultiIndex
from sciml.errors import InvalidArgument, InvalidType, NumericalWarning, SciMLWarning, nearest
from sciml.errors import one_mistake as alike
from sciml.physics.systems.conditions import Condition, On
from sciml.physics.systems.integrals import Integral
from sciml.physics.systems.point_conditions import At, Same
from sciml.physics.systems.unknowns import Unknown

if TYPE_CHECKING:
    from sciml.physics.systems.system import System

# What a subclass says; everything else that `System` has is its own.
SAID = ("outputs", "domain", "conditions", "hard_conditions", "periodic", "mirrored", "waves")
SAID += ("weights", "gauge", "reference_accuracy", "residual", "hard", "exact", "reference")
SAID += ("inputs", "scales")
READ = (*SAID, "unknowns", "integrals")
KINDS = "On(...), Initial(...), At(...), Same(...) or Observed(...)"
HOME = ("sciml.physics.systems.system", "System")
WRITTEN = {  # what to write for names that are no attributes of a class
    "unknowns": "Write c = Unknown(0.1) in the class, one attribute for each.",
    "integrals": "Write total = Integral(...) in the class, one attribute for each.",
}
LOOKS = 16  # points of a side by which it is told whether it is an end of a variable

Touched = Mapping[str, set[tuple[str, MultiIndex]]]


def warn(system: System, text: str, category: type[SciMLWarning] = NumericalWarning) -> None:
    """Warn of something in a system, at the line where its class is written."""
    cls = type(system)
    try:
        file, line = inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):  # a class made in an interactive session, or by type()
        code = getattr(inspect.unwrap(cls.residual), "__code__", None)
        file, line = (code.co_filename, code.co_firstlineno) if code else (None, 1)
    module = sys.modules.get(cls.__module__)
    registry = vars(module).setdefault("__warningregistry__", {}) if module else None
    warnings.warn_explicit(
        f"{cls.__name__}: {text}", category, file or cls.__module__, line, registry=registry
    )


def conditions_of(system: System) -> dict[str, Condition]:
    """Return the conditions by name as they were written.

    Raises:
        InvalidType: For what are none.
    """
    title = type(system).__name__
    found = system.conditions() if callable(system.conditions) else system.conditions
    if not isinstance(found, Mapping):
        raise InvalidType(
            f"conditions of {title} of type {type(found).__name__}",
            "conditions by their names",
            'Write conditions = {"walls": On(domain.boundary, u=0)}',
        )
    for name, condition in found.items():
        if not isinstance(name, str):
            raise InvalidType(
                f"a condition called {name!r} in {title}", "names, as text", 'Write "walls": On(..)'
            )
        if not isinstance(condition, Condition):
            raise InvalidType(f"condition '{name}' is a {type(condition).__name__}", KINDS)
    return dict(found)


def check_spelling(system: System) -> None:
    """Warn of attributes that are one letter away from one that is read; refuse those in the way.

    Raises:
        InvalidArgument: For an attribute that replaces something that `System` itself needs.
    """
    base = next(cls for cls in type(system).__mro__ if (cls.__module__, cls.__name__) == HOME)
    own = type(system).__mro__[: type(system).__mro__.index(base)]
    own_values = {k: v for cls in reversed(own) for k, v in vars(cls).items()}
    # what is computed once is kept beside what the user's __init__ leaves
    own_values |= {k: v for k, v in vars(system).items() if not hasattr(vars(base).get(k), "func")}
    title = type(system).__name__
    for name, value in own_values.items():
        if name.startswith("_") or name in SAID:
            continue
        meant = nearest(name, READ)
        close = meant is not None and alike(name.lower(), meant)
        hint = WRITTEN.get(meant, f"Did you mean '{meant}'?") if close else "Rename it"
        if name in vars(base) and not _override(value, vars(base)[name], close):
            raise InvalidArgument(
                f"{title}.{name}, which replaces what System needs by that name",
                "attributes that a system reads, or names of your own",
                hint,
            )
        if close and not isinstance(value, Unknown | Integral) and not _used(own_values, name):
            warn(
                system,
                f"the attribute '{name}' is read by nothing. {hint} If it is "
                "yours, give it a name that differs more",
                SciMLWarning,
            )


def _override(value: Any, theirs: Any, close: bool) -> bool:
    """Return whether a value can stand for what `System` has by that name."""
    if not inspect.isfunction(value):
        return hasattr(value, "__get__")
    if not inspect.isfunction(theirs):
        return False
    return not close and list(inspect.signature(value).parameters) == list(
        inspect.signature(theirs).parameters
    )


def _used(own_values: Mapping[str, Any], name: str) -> bool:
    """Return whether a function of the class reads an attribute of that name."""
    codes = [v.__code__ for v in own_values.values() if inspect.isfunction(v)]
    while codes:
        code = codes.pop()
        if name in code.co_names:
            return True
        codes += [c for c in code.co_consts if inspect.iscode(c)]
    return False


def missing(system: System, touched: Touched) -> list[str]:
    """Return a sentence for each condition that the equations seem to need and nobody wrote.

    Args:
        system: The system.
        touched: Outputs and derivatives that the equations and every condition read.
    """
    every = system.every_condition.values()
    known = (On, At, Same)
    if system.hard is not None or not all(isinstance(c, known) for c in every):
        return []  # Observed, and kinds of the user's own
    read = touched["equations"]
    built_in = system.periodic or system.mirrored
    if not every and not built_in and any(any(index) for _, index in read):
        return [
            "it has no conditions and no hard(), so that many functions solve its equations. "
            'Write conditions = {"walls": On(domain.boundary, u=0)}'
        ]
    return [*_at_start(system, touched), *_on_walls(system, touched)]


def _quantities(system: System, name: str, condition: Condition, touched: Touched) -> set:
    """Return outputs and orders in every variable that a condition is about."""
    found = set(touched.get(name, ()))
    for key in condition.values:  # those that are built in are not read
        output, derivative = system.quantity(name, key)
        if derivative not in ("n", "lap"):
            found.add((output, system.names.index(derivative)))
    return found


def _at_start(system: System, touched: Touched) -> list[str]:
    region = system.region
    if region.time is None or region.time.name in system.periodic:
        return []
    t, at = region.time.name, len(region.space)
    data: set[tuple[str, object, int]] = set()  # output, place, order in time
    for name, condition in system.every_condition.items():
        if isinstance(condition, Same) and condition.variable == t:
            return []
        places: tuple = ()
        if isinstance(condition, On):
            places = tuple(condition.where.labels & {"initial", "final"})
        elif isinstance(condition, At) and not region.space:
            places = (float(condition.x[0, at]),)
        for output, index in _quantities(system, name, condition, touched) if places else ():
            data |= {(output, place, index[at]) for place in places}
    found: list[str] = []
    highest = {k: max((i[at] for o, i in touched["equations"] if o == k), default=0)
               for k in system.outputs}  # fmt: skip
    if len(data) >= sum(highest.values()):  # w = u.t, w.t = u.xx with u and u_t, say
        return found
    for output in system.outputs:
        order = max((i[at] for k, i in touched["equations"] if k == output), default=0)
        have = {(place, k) for name, place, k in data if name == output}
        if len(have) >= order:
            continue
        wanted = [f"{output}_{t * k}" if k else output for k in range(order)]
        lacking = [w for k, w in enumerate(wanted) if not any(k == o for _, o in have)]
        said = ", ".join(lacking or wanted)
        found.append(
            f"{output}.{t * order} is in the equations and no condition says {said} at the start "
            f"of time. Write Initial({', '.join(f'{w}=...' for w in wanted)})"
        )
    return found


def _on_walls(system: System, touched: Touched) -> list[str]:
    region, d = system.region, len(system.region.space)
    orders = {k: 0 for k in system.outputs}
    for output in system.outputs:
        # of the direction with the lowest one: where u.yy is alone, outflow in x needs no condition
        read = [index[:d] for name, index in touched["equations"] if name == output]
        if read:
            orders[output] = min(max(index[k] for index in read) for k in range(d)) if d else 0
    every = system.every_condition
    labels = frozenset().union(*(c.labels() for c in every.values()))
    if not d or max(orders.values()) < 2 or labels & {"boundary", "rest"}:
        return []
    same = [c.variable for c in every.values() if isinstance(c, Same)]
    joined = {*system.periodic, *system.mirrored, *same} & set(region.space)
    open_ = [k for k in region.shape.labels if k not in labels and not _ends(system, k, joined)]
    if d == 1 and open_:  # both conditions may be at one end, or at points
        told = 0
        for name, condition in every.items():
            ends = {"initial", "final"} & condition.labels()
            pieces = len(condition.labels()) if isinstance(condition, On) else 1
            told += 0 if ends else pieces * len(_quantities(system, name, condition, touched))
        open_ = open_ if told < sum(orders.values()) else []
    if not open_:
        return []
    parts = " | ".join(f"domain.{k}" for k in open_)
    return [
        f"no condition mentions the part{'s' * (len(open_) > 1)} {', '.join(open_)} of the "
        f"boundary, and the equations have second derivatives in space. Write On({parts}, ...)"
    ]


def _ends(system: System, label: str, variables: set[str]) -> bool:
    """Return whether a part of the boundary is an end of one of some variables."""
    pieces = [p for p in system.region.shape.pieces if p.label == label]
    points = torch.cat([p.sample(LOOKS, torch.Generator().manual_seed(0))[0] for p in pieces])
    shape = system.region.shape
    for v in variables:
        k = system.region.space.index(v)
        off = torch.minimum(
            (points[:, k] - shape.low[k]).abs(), (points[:, k] - shape.high[k]).abs()
        )
        if bool((off < 1e-6 * shape.size).all()):
            return True
    return False
