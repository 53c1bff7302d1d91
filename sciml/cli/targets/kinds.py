"""What each group of a configuration is for: the classes that its `_target_` may name.

A class is accepted if it is of the group's kind and comes from a place where such classes live;
functions never are, so that a command line or a file chooses among parts and never calls code of
its own choice. Nodes inside nodes (the linear solver of an adjoint) have kinds too.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from sciml import plugins

# group -> base classes, one of which the target must be or inherit from
GROUPS: dict[str, tuple[str, ...]] = {
    "problem": ("sciml.physics.PDE", "sciml.physics.systems.System"),
    "network": ("torch.nn.Module",),
    "estimator": ("torch.nn.Module",),
    "module": ("lightning.pytorch.LightningModule",),
    "data": ("lightning.pytorch.LightningDataModule",),
    "optimizer": ("torch.optim.Optimizer",),
    "schedule": (
        "sciml.optim.Constant",
        "torch.optim.lr_scheduler.LRScheduler",
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
    ),
    "trainer": ("lightning.pytorch.Trainer",),
    "callbacks": ("lightning.pytorch.Callback",),
    "logger": ("lightning.pytorch.loggers.Logger",),
}

# Classes without a common base, by where they are defined.
ROOMS: dict[str, str] = {
    "network": "sciml.networks",
    "estimator": "sciml.autodiff.estimators",
    "solver": "sciml.solvers",
    "adjoint": "sciml.solvers",
    # inside other nodes, by the name of the argument
    "linear": "sciml.solvers",
    "preconditioner": "sciml.solvers",
    "ode": "sciml.solvers",
    "corrector": "sciml.solvers",
    "constraint": "sciml.physics.constraints",
    "equation": "sciml.physics.constraints",
    "family": "sciml.physics.elliptic",
    "cell": "sciml.physics.solids",
    "task": "sciml.physics.graphs",
    "val_estimator": "sciml.autodiff.estimators",
}
NESTED_ROOMS = {
    "coarse": ("sciml.physics.steady", "sciml.physics.evolution"),
    "problem": ("sciml.physics",),
    "source": ("sciml.physics", "sciml.data"),
}
NESTED_BASES = {
    "strategy": ("lightning.pytorch.strategies.Strategy",),
    "profiler": ("lightning.pytorch.profilers.Profiler",),
}

# What other libraries are asked for; everything else is ours, or a plug-in's.
LIBRARIES = {
    "torch.optim": ("optimizer", "schedule"),
    "pytorch_optimizer": ("optimizer", "schedule"),
    "lightning": ("trainer", "callbacks", "logger", "strategy", "profiler"),
}

# Classes that have a derivative rule are adjoints, the others of that room are not.
ADJOINTS = ("Backprop", "Implicit", "Phantom", "Reversible")


@functools.cache
def _class(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def wrong_kind(path: str, target: Any) -> str:
    """Return why a target does not belong where it stands, or an empty string.

    Args:
        path: Full key of the node, e.g. `adjoint.linear` or `callbacks.ema`.
        target: The class or function that it names.
    """
    group, _, rest = path.partition(".")
    last = path.rpartition(".")[2]
    entry = group in ("callbacks", "logger") and rest.count(".") == 0
    kind = group if not rest or entry else last
    if not inspect.isclass(target):
        return f"a function, which is never called from a configuration. {_wanted(kind, entry)}"
    if any(part.startswith("_") for part in (*target.__module__.split("."), target.__name__)):
        return f"private. {_wanted(kind, entry)}"
    home = f"{target.__module__}."
    library = next((name for name in LIBRARIES if home.startswith(f"{name}.")), None)
    nested = bool(rest) and not entry
    bases = NESTED_BASES.get(kind, ()) if nested else GROUPS.get(kind, ())
    rooms = NESTED_ROOMS.get(kind, ()) if nested else ()
    rooms = rooms or ((ROOMS[kind],) if kind in ROOMS else ())
    if not bases and not rooms:
        return f"inside {group}, where no object is expected. Expected a plain value."
    fits = library is None or kind in LIBRARIES[library]
    fits &= not bases or issubclass(target, tuple(map(_class, bases)))
    # an installed plug-in's network is of the right base, but lives elsewhere
    ours = home.startswith("sciml.")
    fits &= not ours or not rooms or any(home.startswith(f"{room}.") for room in rooms)
    fits &= bool(bases) or ours or home.partition(".")[0] in plugins.names()
    if kind in ("solver", "adjoint") and ours:
        fits &= (target.__name__ in ADJOINTS) == (kind == "adjoint")
    return "" if fits else f"no {kind}. {_wanted(kind, entry)}"


def _wanted(kind: str, entry: bool) -> str:
    """Return what a kind expects, as a sentence without its full stop."""
    if kind in GROUPS:
        names = " or ".join(base.rpartition(".")[2] for base in GROUPS[kind])
        where = f" of {ROOMS[kind]}" if kind in ROOMS else ""
        return f"Expected a subclass of {names}{where}"
    if kind in NESTED_BASES:
        return f"Expected a subclass of {NESTED_BASES[kind][0].rpartition('.')[2]}"
    rooms = NESTED_ROOMS.get(kind) or ((ROOMS[kind],) if kind in ROOMS else ())
    return f"Expected a class of {' or '.join(rooms)}" if rooms else "Expected a plain value"


def entries_without_target(config: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every group, callback or logger that describes no object."""
    found = []
    for group in GROUPS.keys() | {"solver", "adjoint"}:
        node = config.get(group)
        if node is None:
            continue
        if group in ("callbacks", "logger") and isinstance(node, Mapping):
            for key, entry in node.items():
                if entry is not None and not (isinstance(entry, Mapping) and "_target_" in entry):
                    found.append(
                        f"{group}.{key} has no _target_. Add {group}.{key}._target_=CLASS, or "
                        f"choose a {group}=NAME that has a {key}."
                    )
        elif not isinstance(node, Mapping) or "_target_" not in node:
            found.append(f"{group} has no _target_. Type {group}=NAME.")
    return sorted(found)
