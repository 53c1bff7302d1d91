"""`.pt` and `.pth`: dictionaries, pairs and lists of tensors, read with `weights_only`."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.data.sources.generic import assemble
from sciml.data.sources.source import Source, whole
from sciml.errors import InvalidArgument


def read(path: Path) -> Source:
    """Return the tensors of a file; a list of dictionaries is a list of point clouds.

    Raises:
        InvalidArgument: If it is damaged, or holds more than tensors.
    """
    held = _load(path)
    if isinstance(held, Tensor):
        held = {path.stem: held}
    if isinstance(held, list | tuple) and held and all(isinstance(v, Mapping) for v in held):
        clouds = [_numbers(path, sample) for sample in held]
        arrays = {name: whole(name, value, sampled=False) for name, value in clouds[0].items()}
        return Source(path, "torch list of samples", arrays, clouds=clouds)
    if isinstance(held, list | tuple) and len(held) == 2:
        held = dict(zip(("x", "y"), held, strict=True))
    if not isinstance(held, Mapping):
        raise InvalidArgument(
            f"{path} holds a {type(held).__name__}",
            "a dictionary of tensors, a pair of tensors, or a list of dictionaries",
            "Write it with torch.save({'x': x, 'y': y}, path)",
        )
    numbers = _numbers(path, held)
    source = assemble(path, "torch tensors", {n: whole(n, v) for n, v in numbers.items()})
    kinds = {str(n): type(v).__name__ for n, v in held.items() if not isinstance(v, Mapping)}
    left = [f"{n} ({k}) holds no tensor" for n, k in kinds.items() if n not in numbers]
    source.notes += [f"{text} and is left out" for text in left]
    return source


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # of an old pickle, which is refused or read
            warnings.simplefilter("ignore", UserWarning)
            return _tensors(path)
    except pickle.UnpicklingError as error:
        text = str(error)
        pickled = "Unsupported global" in text or "GLOBAL" in text
        raise InvalidArgument(
            f"{path} holds Python objects, and reading them can run code"
            if pickled
            else f"{path} cannot be read ({text.splitlines()[0][:120]})",
            "tensors in dictionaries, lists and pairs",
            "If you trust the file, write its tensors anew: torch.save({'x': x, 'y': y}, path)"
            if pickled
            else "It may be truncated: copy it again",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise InvalidArgument(
            f"{path} cannot be read ({str(error).splitlines()[0][:120]})",
            "a file of torch.save",
            "It may be truncated: copy it again",
        ) from error


def _tensors(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):  # files of torch before 1.6 cannot be mapped
            raise
        return torch.load(path, map_location="cpu", weights_only=True)


def _numbers(path: Path, held: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the tensors of a dictionary as arrays; nested ones as `outer/inner`."""
    found: dict[str, np.ndarray] = {}
    for name, value in held.items():
        if isinstance(value, Mapping):
            inner = _numbers(path, value)
            found |= {f"{name}/{key}": array for key, array in inner.items()}
        elif isinstance(value, Tensor):
            found[str(name)] = _array(value)
        elif isinstance(value, int | float):
            found[str(name)] = np.asarray(value)
        elif (
            isinstance(value, list | tuple) and value and all(isinstance(v, Tensor) for v in value)
        ):
            shapes = sorted({tuple(v.shape) for v in value})
            if len(shapes) > 1:
                at = next(i for i, v in enumerate(value) if v.shape != value[0].shape)
                raise InvalidArgument(
                    f"{path}: {name} is a list of tensors of mixed shapes, {shapes[0]} and "
                    f"{shapes[1]}; the first that differs is number {at}",
                    "one shape for all samples, or a list of dictionaries (point clouds)",
                    "Interpolate the samples to one grid, or save [{'points': ..., ...}, ...]",
                )
            found[str(name)] = np.stack([_array(v) for v in value])
    return found


def _array(value: Tensor) -> np.ndarray:
    """Return the numbers of a tensor, whatever way torch keeps them."""
    value = value.detach()
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    value = value.resolve_conj().resolve_neg()
    small = value.dtype.is_floating_point and value.dtype.itemsize < 4  # numpy has none, or slow
    return (value.float() if small else value).numpy()
