"""The neuraloperator library as networks of ours need it: imported late, refusing early, no loop.

What version 2.0.0 leaves to its users, and what is done here:

    - Importing it takes seconds, imports wandb and changes the filters of warnings: it is imported
      when a network is made, and filters are restored.
    - Constructors take any argument or none, print, and check by assertions: options are compared
      with the signature, and errors say what was given.
    - Sums over the neighbours of points are a Python loop over points, unless torch-scatter is
      there, which cannot be differentiated twice: `segment_sums` replaces both.
    - `state_dict` of a network holds its constructor's arguments, classes among them, which neither
      checkpoints nor weight files may hold: `tensors_only` takes them out.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, MissingPackage, SciMLError, did_you_mean


def library(module: str) -> ModuleType:
    """Return a module of neuraloperator, with the filters of warnings as they were.

    Raises:
        MissingPackage: If it, or what it imports, is not installed.
    """
    try:
        with warnings.catch_warnings():
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"neuraloperator cannot be imported ({error})",
            "the library whose network this is",
            "Type pip install neuraloperator",
        ) from error


def make(
    name: str, names: Sequence[str], options: Mapping[str, Any], own: Mapping[str, Any]
) -> nn.Module:
    """Return a network of the library; where it has output channels, one unless `own` says more.

    Options are plain data: arguments that are functions or classes cannot be given.

    Args:
        name: Of the network.
        names: Those that fit.
        options: What the user gives to its constructor.
        own: What we do.
    """
    if name not in names:
        raise InvalidArgument(f"network.model={name}", " or ".join(names))
    cls = getattr(library("neuralop.models"), name)
    own = {"out_channels": 1, **own} if "out_channels" in _plain_arguments(cls) else dict(own)
    free = [key for key in _plain_arguments(cls) if key not in own]
    for key in options:
        if key not in free:
            set_here = f", {own[key]} here" if key in own else ""
            raise InvalidArgument(
                f"network.options.{key}{set_here}",
                f"an option of neuraloperator's {name}",
                did_you_mean(key, free),
            )
    try:
        # Constructors print, and append to lists that they are given.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            return cls(**copy.deepcopy(dict(options)), **own)
    except SciMLError:
        raise
    except Exception as error:  # any: the library's checks are assertions, or none
        raise InvalidArgument(
            f"network.options, which neuraloperator's {name} refuses "
            f"({type(error).__name__}: {error})",
            "values as its documentation has them",
        ) from error


def _plain_arguments(cls: type) -> list[str]:
    """Return the named arguments of a class that are data, also those it hands on to its base."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        parameters = inspect.signature(base.__init__).parameters.values()
        found = {p.name: p for p in parameters} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    named = [p for p in found.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    plain = [p.name for p in named if p.default is p.empty or not callable(p.default)]
    return [name for name in plain if name != "self"]


@contextlib.contextmanager
def summed_at_once() -> Iterator[None]:
    """Let the library's layers on graphs call `segment_sums` for a while."""
    layer = library("neuralop.layers.integral_transform")
    layer.segment_csr = segment_sums
    try:
        yield
    finally:
        layer.segment_csr = library("neuralop.layers.segment_csr").segment_csr


def segment_sums(
    src: Tensor, indptr: Tensor, reduction: Literal["mean", "sum"], use_scatter: bool = False
) -> Tensor:
    """Return sums or means over consecutive rows, as `neuralop.layers.segment_csr` does.

    One `index_add`, which has derivatives of every order.

    Args:
        src: `(E, C)` rows, or `(N, E, C)`.
        indptr: `(n + 1,)` where segments begin and end, or `(N, n + 1)` with equal rows.
        reduction: Sums or means; 0 for empty segments.
        use_scatter: Not looked at.

    Returns:
        `(n, C)` or `(N, n, C)`.
    """
    ends = indptr[0] if src.dim() == 3 else indptr
    counts = ends[1:] - ends[:-1]
    rows = torch.arange(len(counts), device=src.device)
    index = torch.repeat_interleave(rows, counts, output_size=src.shape[-2])
    total = src.new_zeros(*src.shape[:-2], len(counts), src.shape[-1])
    total = total.index_add(src.dim() - 2, index, src)
    return total / counts.clamp_min(1).to(src)[:, None] if reduction == "mean" else total


def tensors_only(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    """Take out what the library adds to states; for `register_state_dict_post_hook` of a parent.

    The entry has the same name whatever the prefix, so that a second network would lose its own.
    """
    state.pop("_metadata", None)
