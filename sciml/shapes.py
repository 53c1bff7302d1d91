"""What functions that users write must return: one check, for all rooms.

    check_returned("Heat.residual()", value, (100,))

A number per point comes as `(N,)`, coordinates as columns `(N, 1)`; torch broadcasts the two to
`(N, N)` without a word, and a mean over that is a number like any other. So whoever calls a
function of a user compares the shape before anything is combined with it, which costs nothing, and
the first call is watched from inside (`no_outer_products`), since a function may hide `(N, N)` by a
mean of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from sciml.errors import InvalidArgument, InvalidType

COLUMNS = "p.t[:, 0] for p.t, p.x[:, 0] for p.x[:, :1]"
# Names of what works entry by entry, without the underscores of operators.
ENTRYWISE = frozenset(
    "add radd sub rsub mul rmul div rdiv truediv rtruediv pow rpow iadd isub imul "
    "maximum minimum where atan2 hypot lt le gt ge eq ne".split()
)

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_returned(
    name: str, value: Any, shape: tuple[int, ...], *, like: Tensor | None = None, what: str = ""
) -> Any:
    """Return `value` if it is a real tensor (or jet) of the shape.

    Args:
        name: The function as its author knows it, with the term or argument it was called for.
        value: What it returned.
        shape: What it should have returned.
        like: Where it should be: a tensor on the same device.
        what: What the tensor holds, for the message: "one number per point".

    Raises:
        InvalidType: For what is no tensor, or not of a real floating-point type.
        InvalidArgument: For another shape or another device; says what to write instead.
    """
    # what is right, at every step of a training, passes by comparisons alone
    if type(value) is Tensor and value.shape == shape and value.dtype.is_floating_point:
        if like is None or value.device == like.device:
            return value
    wanted = f"a tensor of shape {tuple(shape)}" + (f", {what}" if what else "")
    check_tensor(name, value, wanted)
    got = tuple(value.shape)
    if got != tuple(shape):
        raise InvalidArgument(f"{name} returned shape {got}", wanted, advice(got, tuple(shape)))
    check_device(name, value, like)
    return value


def as_array(name: str, value: Any, wanted: str = "numbers", **kind: Any) -> Tensor:
    """Return a value as a tensor.

    Args:
        name: The argument, for the message.
        value: Anything `torch.as_tensor` takes.
        wanted: What it should have been.
        kind: Arguments of `torch.as_tensor`.

    Raises:
        InvalidType: For what is no array of numbers.
    """
    real = "dtype" in kind and not kind["dtype"].is_complex
    if isinstance(value, Tensor) and (value.layout != torch.strided or value.is_meta):
        what = "sparse" if value.layout != torch.strided else "on 'meta', where it has no values"
        raise InvalidType(f"{name} is a tensor that is {what}", f"{wanted}, dense, with values")
    if real and (value.is_complex() if isinstance(value, Tensor) else np.iscomplexobj(value)):
        raise InvalidType(f"{name} is complex", f"real {wanted}")
    try:
        return torch.as_tensor(value, **kind)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        said = f" {value!r}" if isinstance(value, str) else ""
        raise InvalidType(f"{name} is a {type(value).__name__}{said[:60]}", wanted) from error


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], hint: str = "") -> None:
    """Refuse an object of another class.

    Raises:
        InvalidType: Naming the argument and the class.
    """
    if not isinstance(value, kind):
        classes = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(cls.__name__ for cls in classes)
        raise InvalidType(f"{name} is a {type(value).__name__}", f"a {wanted}", hint)


def check_call(name: str, function: Any, wanted: str, /, *args: Any, **kwargs: Any) -> None:
    """Refuse a function that does not take the arguments it will be called with.

    Args:
        name: The function as its author knows it.
        function: The function.
        wanted: How it is called, "(x, i)".
        args: What it will get; only the number counts.
        kwargs: The same by name.

    Raises:
        InvalidType: With the arguments it has.
    """
    if isinstance(function, type):  # it would be made, not called
        raise InvalidType(f"{name} is the class {function.__name__}", f"a function of {wanted}")
    # a module is called through hooks that take anything
    called = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # compiled functions do not say
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidType(
            f"{name} takes the arguments {signature}", f"{wanted}, with which it is called"
        ) from error


def check_tensor(name: str, value: Any, wanted: str, verb: str = "returned") -> None:
    """Refuse what is no tensor (or jet) of real floating-point numbers."""
    if not hasattr(value, "shape") or not isinstance(getattr(value, "dtype", None), torch.dtype):
        kind = "None" if value is None else f"a {type(value).__name__}"
        hint = "Does the function end without return?" if value is None else ""
        if isinstance(value, int | float):
            hint = f"Write torch.full(shape, {value}), or value + 0 * x[...] of a coordinate"
        elif type(value).__module__ == "numpy":
            hint = "Use torch operations, or torch.as_tensor(value).to(p.x)"
        raise InvalidType(f"{name} {verb} {kind}", wanted, hint)
    if not value.dtype.is_floating_point:
        raise InvalidType(
            f"{name} {verb} dtype {value.dtype}", wanted, "Write .to(p.x) or .float() after it"
        )


def check_device(name: str, value: Any, like: Tensor | None) -> None:
    """Refuse a tensor on another device than `like`."""
    device = getattr(value, "device", None)
    if like is not None and device is not None and device != like.device:
        raise InvalidArgument(
            f"{name} returned a tensor on {device}",
            f"one on {like.device}, where its arguments are",
            "Make constants from the arguments: torch.ones_like(p.t), tensor.to(p.x)",
        )


def advice(got: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Return what to write where a function returned `got` instead of `shape`."""
    if not shape:
        return ""
    n = shape[0]
    if len(shape) == 1:
        if got == (n, 1):
            return f"Write result[:, 0], and {COLUMNS}"
        if len(got) == 2 and got[0] == got[1] or got == (n, n):
            return f"(N,) was combined with (N, 1), which broadcasts: write {COLUMNS}"
        if got == ():
            return "Leave means and sums over the points to the loss: sum over dim=1 or dim=-1"
        if got == (1, n):
            return "Write result[0]"
    if len(shape) == 2:
        if got == shape[:1]:
            return "Write result[:, None], or x[:, :1] for x[:, 0]: a column per value"
        if got == shape[::-1]:
            return "Write result.t()"
        if shape[1] == 1 and len(got) == 2 and got[0] == got[1] > 1:
            return "(N,) was combined with (N, 1), which broadcasts: write x[:, :1] for x[:, 0]"
    if got in ((), (1,), (1, 1)):
        return "Write value + 0 * x[:, :1] of a coordinate: a constant, too, has a row per point"
    return ""


def name_of(function: Any) -> str:
    """Return the name under which a user knows a function."""
    function = getattr(function, "func", function)  # functools.partial
    return getattr(function, "__qualname__", type(function).__name__).replace("<locals>.", "")


class no_outer_products(TorchFunctionMode):
    """Refuses `(N,)` combined with `(N, 1)` while it is entered.

    Such a product is `(N, N)` and may be reduced to a legal shape before it is returned. Products
    that are meant, of `x[:, None]` and `x[None]`, pass.

    Args:
        name: The function that is called inside.
        n: Number of points N; nothing can be seen with fewer than two.
        of: If given, only `(N,)` computed from this tensor count. Others may be weights of N
            unknowns, or times of N measurements, where their number is N by chance. Compiled
            functions then run uncompiled inside: the compiler would trace the watching.
    """

    def __init__(self, name: str, n: int, of: Tensor | None = None) -> None:
        super().__init__()
        self.name, self.n = name, n
        self.computed = None if of is None else WeakTensorKeyDictionary({of: True})
        self.eager: Any = nullcontext()

    def __enter__(self) -> no_outer_products:
        """Begin to watch."""
        if self.computed is not None:
            self.eager = torch.compiler.set_stance("force_eager")
        self.eager.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """End it."""
        super().__exit__(*error)
        self.eager.__exit__(*error)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compare shapes before what works entry by entry, and after everything else."""
        kwargs = kwargs or {}
        out = self._watched(function, args, kwargs)
        if self.computed is not None and self._known((*args, *kwargs.values())):
            for part in out if isinstance(out, tuple | list) else (out,):
                if isinstance(part, Tensor):
                    self.computed[part] = True
        return out

    def _known(self, value: Any) -> bool:
        """Return whether an argument is, or holds, a tensor computed from `of`."""
        if isinstance(value, tuple | list):
            return any(self._known(part) for part in value)
        return isinstance(value, Tensor) and value in self.computed

    def _watched(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        if getattr(function, "__name__", "").strip("_") in ENTRYWISE:
            self._compare(function, args)  # before (N, N) takes the memory of large N
            return function(*args, **kwargs)
        out = function(*args, **kwargs)
        if isinstance(out, Tensor) and out.shape == (self.n, self.n):
            self._compare(function, args)
        return out

    def _compare(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        n = self.n
        # whole numbers are places, and the tensor they pick from has an axis of its own
        tensors = [a for a in args if isinstance(a, Tensor) and a.dtype not in WHOLE]
        shapes = {tuple(a.shape) for a in tensors}
        if n > 1 and {(n,), (n, 1)} <= shapes and self._counts(tensors):
            columns = COLUMNS if self.computed is None else "x[:, :1] for x[:, 0]"
            raise InvalidArgument(
                f"{self.name} combines a tensor ({n},) with a tensor ({n}, 1) by "
                f"{getattr(function, '__name__', function)}, which gives ({n}, {n})",
                "numbers of one point combined with numbers of the same point",
                f"Write {columns}; where all pairs are meant, x[:, None] and x[None]",
            )

    def _counts(self, tensors: list[Tensor]) -> bool:
        """Return whether one `(N,)` among them may be a number per point."""
        vectors = (a for a in tensors if a.shape == (self.n,))
        return self.computed is None or any(a in self.computed for a in vectors)
