"""Checks of an operator's inputs: names, shapes, derivatives, and what arrays stand for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, did_you_mean
from sciml.pretrained.checks import distance_checks
from sciml.pretrained.checks.arrays_given import input_tensor


def named_inputs(
    known: Mapping[str, Mapping], values: tuple, inputs: Mapping[str, object]
) -> dict[str, Tensor]:
    """Return inputs as tensors by name, in the order of the card.

    Args:
        known: Inputs as `model.json` describes them.
        values: Inputs in the order of the card.
        inputs: Inputs by name; None for one that is left out.

    Raises:
        InvalidArgument: If one is missing, unknown, given twice or not finite.
        InvalidType: If one holds the wrong kind of numbers.
    """
    if len(values) > len(known):
        raise InvalidArgument(f"{len(values)} inputs", f"at most {len(known)}: {list(known)}")
    named = dict(zip(known, values, strict=False))
    for name in inputs:
        if name not in known:
            raise InvalidArgument(f"an input '{name}'", f"{list(known)}", did_you_mean(name, known))
        if name in named:
            raise InvalidArgument(f"'{name}' twice", "every input once")
    named |= inputs
    named = {key: value for key, value in named.items() if value is not None}
    missing = [k for k, e in known.items() if k not in named and not e.get("optional")]
    if missing:
        raise InvalidArgument(f"no {' and no '.join(missing)}", f"the inputs {list(known)}")
    return {key: input_tensor(key, named[key], known[key]) for key in known if key in named}


def check_shapes(known: Mapping[str, Mapping], given: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes that the letters stand for.

    Args:
        known: Inputs as `model.json` describes them.
        given: Inputs by name.

    Raises:
        InvalidArgument: Naming an input of another shape.
    """
    free: dict[str, int] = {}
    for name, value in given.items():
        wanted = known[name]["shape"]
        fits = value.dim() == len(wanted)
        for size, axis in zip(value.shape, wanted, strict=False):
            fits &= size == (free.setdefault(axis, size) if isinstance(axis, str) else axis)
            fits &= size > 0 or axis == "edges"  # a graph may have no edges
        if value.dim() == len(wanted) - 1 and list(wanted)[:1] == ["N"]:
            raise InvalidArgument(
                f"{name} has shape {tuple(value.shape)}, without an axis of samples",
                f"({', '.join(map(str, wanted))})",
                f"For one sample write {name}[None], shape {(1, *value.shape)}",
            )
        if not fits:
            sizes = {k: v for k, v in free.items() if k in wanted}
            said = f" with {', '.join(f'{k} = {v}' for k, v in sizes.items())}" if sizes else ""
            raise InvalidArgument(
                f"{name} has shape {tuple(value.shape)}",
                f"({', '.join(map(str, wanted))}){said}, at least one entry",
            )
    return free


def check_meaning(given: Mapping[str, Tensor], half: float | None) -> None:
    """Refuse arrays that stand for a domain and are not what their names say.

    Args:
        given: Inputs by name.
        half: Half the side of the operator's box; None where there is none.

    Raises:
        InvalidArgument: If what is called a distance is none, or data are not the boundary's.
    """
    if "sdf" in given and half is not None:
        distance_checks.check_distance(given["sdf"], float(half))
        if "boundary" in given:
            distance_checks.check_boundary(given["sdf"], given["boundary"], float(half))
    elif {"points", "distance"} <= given.keys():
        distance_checks.check_cloud(given["points"], given["distance"])


def check_derivatives(given: Mapping[str, Tensor]) -> None:
    """Refuse derivatives with respect to clouds: which points are neighbours has none."""
    moving = [name for name in ("points", "distance") if name in given]
    asked = [name for name in moving if given[name].requires_grad]
    if len(moving) == 2 and asked and torch.is_grad_enabled():
        raise InvalidArgument(
            f"derivatives with respect to {' and '.join(asked)} of a cloud",
            "derivatives with respect to data, such as boundary and source",
            "They would be partial ones, with neighbours held fixed: operators on grids have "
            f"whole ones. Pass {' and '.join(f'{name}.detach()' for name in asked)}, or call "
            "predict under torch.no_grad()",
        )
