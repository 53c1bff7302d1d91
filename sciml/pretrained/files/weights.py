"""Weights as a safetensors file: write, hash, read strictly.

safetensors has no complex128, so such tensors are stored as real views with a last axis of two and
their names are listed in `model.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sciml.errors import PretrainedError

FILE = "weights.safetensors"


# A model may need this many times the size of its weights while it is built, and some more.
TIMES, MORE = 16, 2**26
MOST_TENSORS = 20_000  # made while a model is built: a thousand layers or two
PRECISIONS = (torch.float32, torch.float64, torch.complex64, torch.complex128)
FACTORIES = {
    getattr(torch, name)
    for name in ("arange", "empty", "eye", "full", "linspace", "normal", "ones", "rand", "randint")
    + ("randn", "randperm", "zeros")
}


class Bounded(TorchFunctionMode):
    """Refuses to make more tensors than a number of bytes.

    A few numbers in a description could else ask for more memory than there is.

    Args:
        most: Bytes that all tensors together may take.
        said: The message, with `{made}` for the MB asked for.

    Raises:
        PretrainedError: Before the tensor that exceeds it is made.
    """

    def __init__(self, most: int, said: str) -> None:
        super().__init__()
        self.most, self.said, self.made, self.count = most, said, 0, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, after counting what it would make."""
        kwargs = kwargs or {}
        if func in FACTORIES:
            plain = {k: v for k, v in kwargs.items() if k not in ("generator", "out", "pin_memory")}
            made = func(*args, **{**plain, "device": "meta"})
            self.count += 1
            if self.count > MOST_TENSORS:
                raise PretrainedError(
                    f"more than {MOST_TENSORS} tensors", "the arguments it was saved with"
                )
            self.made += made.numel() * made.element_size()
            if self.made > self.most:
                raise PretrainedError(
                    self.said.format(made=f"{self.made / 1e6:.0f}"),
                    "the arguments it was saved with",
                )
        return func(*args, **kwargs)


def bounded(file: Path) -> Bounded:
    """Return a bound in proportion to the weights in a file, which are to fill the model."""
    size = file.stat().st_size
    said = "model.json describes a model of more than {made} MB, the weights have "
    return Bounded(TIMES * size + MORE, f"{said}{size / 1e6:.1f} MB")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, state: Mapping[str, Tensor]) -> list[str]:
    """Write a state dict and return the names stored as real views of complex128 tensors."""
    paired = sorted(name for name, value in state.items() if value.dtype == torch.complex128)
    # clone: safetensors refuses tensors that share memory, contiguous or not
    plain = {
        name: (torch.view_as_real(value) if name in paired else value).detach().cpu().clone()
        for name, value in state.items()
    }
    # not save_file, which makes a file that its owner alone may read
    path.write_bytes(safetensors.torch.save({k: v.contiguous() for k, v in plain.items()}))
    return paired


def read(path: Path, digest: str, paired: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of a weights file whose content has the given SHA-256.

    Raises:
        PretrainedError: If the checksum differs or the file is not in safetensors format.
    """
    found = sha256(path)
    if found != digest:
        raise PretrainedError(
            f"{path} has SHA-256 {found[:12]}…",
            f"{digest[:12]}… as recorded in model.json",
            "The file is damaged or was exchanged; copy the folder again from its source",
        )
    try:
        # Clone: the file is mapped into memory and its tensors sit at any multiple of 4 bytes,
        # where complex matrix products crash and others may round differently.
        state = {k: v.clone() for k, v in safetensors.torch.load_file(path).items()}
    except SafetensorError as error:
        raise PretrainedError(
            f"{path} cannot be read as safetensors ({error})",
            "a safetensors file",
            "Pickled weights are refused because reading them can run code; save the model again "
            "with sciml.save_pretrained",
        ) from error
    for name, value in state.items():
        if value.is_floating_point() and value.dtype not in PRECISIONS:
            raise PretrainedError(f"'{name}' is stored as {value.dtype}", "float32 or float64")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise PretrainedError(
                f"'{name}' in {path} holds numbers that are not finite", "finite weights"
            )
    for name in paired:
        value = state.get(name)
        if value is None or value.dtype != torch.float64 or value.shape[-1:] != (2,):
            raise PretrainedError(
                f"model.json lists '{name}' as complex128",
                f"a float64 tensor of that name with a last axis of 2 in {path.name}",
            )
        state[name] = torch.view_as_complex(value)
    return state


def assign(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give `model` exactly the tensors in `state`, dtype included.

    Raises:
        PretrainedError: If a name is missing or extra, or a shape or kind of number differs.
    """
    wanted = model.state_dict()
    findings = [f"'{name}' is missing" for name in wanted if name not in state]
    findings += [f"'{name}' is not part of the model" for name in state if name not in wanted]
    for name, value in state.items():
        own = wanted.get(name)
        if own is None:
            continue
        if own.shape != value.shape:
            findings.append(f"'{name}' has shape {tuple(value.shape)}, not {tuple(own.shape)}")
        elif _kind(own) != _kind(value):
            findings.append(f"'{name}' is {value.dtype}, the model has {own.dtype}")
    kept = {(wanted[k].dtype, v.dtype) for k, v in state.items() if k in wanted}
    mixed = [dtype for dtype, _ in kept if len([d for d, _ in kept if d == dtype]) > 1]
    if mixed:
        findings.append(f"tensors of {mixed[0]} are stored in several precisions")
    if findings:
        more = f" and {len(findings) - 5} more" if len(findings) > 5 else ""
        raise PretrainedError(
            f"the weights do not fit the model described in model.json: "
            f"{'; '.join(findings[:5])}{more}",
            "the same names and shapes on both sides",
            "Use model.json and weights.safetensors from the same save",
        )
    # Not copied, which would round float64 to the fresh float32 weights; and no new parameters:
    # a problem holds its unknowns itself and uses them in its hard constraint.
    for name, own in model.state_dict(keep_vars=True).items():
        own.data = state[name]


def _kind(value: Tensor) -> str:
    if value.is_complex():
        return "complex"
    return "float" if value.is_floating_point() else "integer"
