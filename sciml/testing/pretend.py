"""A pretend accelerator: tensors that say they are elsewhere, so that a CPU finds device faults.

Tensors on the device `pretend` are wrappers around CPU data. Every operation that mixes them with
CPU tensors of one or more dimensions is refused as an accelerator refuses it, random numbers want a
generator of their own device, and whatever would make the host wait is counted:

    with Pretend() as device:
        x = torch.ones(3, device="pretend")
        x + torch.ones(3)              # RuntimeError: ... at least two devices
        float(x.sum())                 # device.waits["item"] is 1

Built on PyTorch's private-use backend, registered when this module is imported: that has to come
before the first backward pass of a process, whose engine counts devices once. What it cannot
find: races, precision, memory, kernels that do not exist on a device.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretend"
aten = torch.ops.aten
# Reads of a value by the host.
WAITS = {aten._local_scalar_dense.default: "item", aten.is_nonzero.default: "bool"}
WAITS |= {aten.equal.default: "equal", aten.nonzero.default: "nonzero"}
WAITS |= {aten.masked_select.default: "masked_select"}
# Operations that may copy between devices.
COPIES = (aten._to_copy.default, aten.copy_.default)


class PretendTensor(Tensor):
    """A tensor on the pretend device; `held` is its data on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls: type[PretendTensor], held: Tensor) -> PretendTensor:
        """Wrap CPU data."""
        out = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        out.held = held
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Copy the data; a parameter stays one."""
        if id(self) in memo:
            return memo[id(self)]
        with torch.no_grad():
            out = PretendTensor(self.held.clone())
        out = type(self)._as(out, self)
        memo[id(self)] = out
        return out

    @staticmethod
    def _as(new: Tensor, old: Tensor) -> Tensor:
        if isinstance(old, torch.nn.Parameter) or getattr(old, "_is_param", False):
            return torch.nn.Parameter(new, requires_grad=old.requires_grad)
        return new.requires_grad_(old.requires_grad)

    def __reduce_ex__(self, protocol: int) -> Any:
        """Be saved as CPU data, as checkpoints are read there anyway."""
        note("save")
        return self.held.detach().__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        """Return the data's text with this device."""
        return f"{self.held!r}@{NAME}"

    def tolist(self) -> Any:
        """Return the values as lists."""
        note("tolist")
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, as an accelerator does; return the data if forced."""
        if not force:
            raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu()")
        note("numpy")
        return self.held.detach().numpy()

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        """Run an operation on the data."""
        return run(func, args, dict(kwargs or {}))


_OURS = (PretendTensor, torch._C.Generator)
_watching: list[Pretend] = []


def note(kind: str) -> None:
    """Count a wait."""
    for device in _watching:
        device.wait(kind)


def run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operation of which an argument or the result is on the pretend device."""
    flat = _leaves((args, kwargs), [])
    here = [t for t in flat if isinstance(t, PretendTensor)]
    wanted = kwargs.get("device")
    if wanted is None:
        lands = bool(here)
    else:
        lands = torch.device(wanted).type == NAME
    if func is aten.copy_.default:
        lands = isinstance(args[0], PretendTensor)
    wanted_home = NAME if lands else "cpu"
    for t in flat:
        if not isinstance(t, Tensor):
            if isinstance(t, torch._C.Generator) and _homes.get(t._cdata, "cpu") != wanted_home:
                raise RuntimeError(
                    f"Expected a '{wanted_home}' device type for generator but found "
                    f"'{_homes.get(t._cdata, 'cpu')}' ({func})"
                )
        elif here and not isinstance(t, PretendTensor) and t.dim() and func not in COPIES:
            if not _index(func, t):
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two "
                    f"devices, {NAME}:0 and cpu! ({func}, shape {tuple(t.shape)})"
                )
    kind = WAITS.get(func)
    if func in COPIES and here and not lands:
        kind = "cpu"
    if func is aten.index.Tensor and any(_is_mask(i) for i in args[1]):
        kind = "mask"
    if kind:
        note(kind)
    if lands and wanted is not None:
        kwargs["device"] = torch.device("cpu")
    found = func(*_mapped(_held, args), **_mapped(_held, kwargs))
    if "out" in kwargs or _mutates(func):
        # the same object comes back, with its new shape if it has one
        by = {id(t.held): t for t in here}
        return _mapped(lambda t: by[id(t)] if id(t) in by else _wrapped(t, lands), found)
    return _mapped(lambda t: _wrapped(t, lands), found)


def _leaves(tree: Any, found: list[Any]) -> list[Any]:
    """Collect what stands in tuples, lists and dictionaries: all that operations take."""
    for part in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(part, tuple | list | dict):
            _leaves(part, found)
        else:
            found.append(part)
    return found


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to the leaves of a tree."""
    if isinstance(tree, dict):
        return {key: _mapped(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)([_mapped(function, part) for part in tree])
    return function(tree)


def _held(t: Any) -> Any:
    return t.held if isinstance(t, PretendTensor) else t


def _wrapped(t: Any, lands: bool) -> Any:
    return PretendTensor(t) if lands and isinstance(t, Tensor) else t


@functools.cache
def _mutates(func: Any) -> bool:
    written = (a.alias_info for a in func._schema.arguments)
    return func._schema.name.endswith("_") or any(a is not None and a.is_write for a in written)


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _index(func: Any, t: Tensor) -> bool:
    """Return whether a CPU tensor may stand here: an index is copied, as on an accelerator."""
    return func._schema.name in ("aten::index", "aten::index_put", "aten::index_put_") and (
        not t.is_floating_point()
    )


# Devices of generators by address: operations are handed a new object for the same generator.
_homes: dict[int, str] = {}


class _Generator(torch.Generator):
    """A generator that may belong to the pretend device."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        kind = torch.device(device).type
        out = super().__new__(cls, "cpu" if kind == NAME else device)
        _homes[out._cdata] = kind
        return out

    def __init__(self, device: Any = "cpu") -> None:
        """Keep what `__new__` made."""

    @property
    def device(self) -> torch.device:
        """Return where it draws."""
        kind = _homes[self._cdata]
        return torch.device(NAME, 0) if kind == NAME else torch.device(kind)


class Pretend(TorchDispatchMode):
    """Makes the device usable, and counts how often the host waits for it.

    Attributes:
        waits: How often, by kind.
        places: How often, by place in the code: file and line of this package.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.places: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Pretend:
        """Begin."""
        self._stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
        _watching.append(self)
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        """End."""
        super().__exit__(*exc)
        _watching.remove(self)
        self._stack.close()

    def wait(self, kind: str) -> None:
        """Count a wait, with its place."""
        self.waits[kind] += 1
        frame = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            if "/sciml/" in file and not file.endswith("testing/pretend.py"):
                self.places[f"{file.rsplit('/sciml/', 1)[1]}:{frame.f_lineno} {kind}"] += 1
                return
            frame = frame.f_back

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        """Run an operation, ours if the device has to do with it."""
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        here = device is not None and torch.device(device).type == NAME
        if here or any(isinstance(t, _OURS) for t in _leaves((args, kwargs), [])):
            return run(func, args, kwargs)
        return func(*args, **kwargs)


def _register() -> None:
    """Register the device with PyTorch."""
    from torch.utils import backend_registration

    class Module(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.float16, torch.bfloat16]

    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    # what PyTorch calls below all modes, to make a tensor of numbers on a device
    for name in ("empty_strided", "empty.memory_format"):
        _library.impl(name, _made(name), "PrivateUse1")
    _library.impl("_copy_from", _copied, "PrivateUse1")


_library = torch.library.Library("aten", "IMPL")


def _made(name: str) -> Any:
    op = getattr(getattr(aten, name.partition(".")[0]), name.partition(".")[2] or "default")

    def make(*args: Any, **kwargs: Any) -> Tensor:
        return PretendTensor(op(*args, **{**kwargs, "device": torch.device("cpu")}))

    return make


def _copied(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    inner = [t.held if isinstance(t, PretendTensor) else t for t in (source, target)]
    inner[1].copy_(inner[0])
    return target


_register()
