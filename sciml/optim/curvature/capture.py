"""Inputs of affine layers and handles on their outputs, recorded while a loss is evaluated.

Inside `Capture(layers)` every use of a registered layer leaves a `Use`: what went in, and a tensor
in the graph whose gradient is the layer's output cotangent. Jets go through a layer as several
slots (value, first derivatives, collapsed second derivatives), convolutions as one slot per output
position, tokens as one per token; the gradient of the layer is the sum over slots of outer
products.

A residual that contains the gradient of the network by a reverse pass uses each weight once more,
transposed, inside that pass. Hooks miss this (they see the adjoint instead of the residual's
cotangent, or fire several times); here it is one more slot, with the roles of input and cotangent
exchanged. Nothing outlives the `with` block, and modules are not changed.

Reference for slots: Eschenhagen et al. 2023, arXiv 2311.00636; Dangel et al. 2024, arXiv 2405.15603
(section 3). Departure: the transposed slot is ours.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sciml.autodiff import fused
from sciml.autodiff.coordinates import Coordinates
from sciml.autodiff.jet import Jet, unpack
from sciml.autodiff.multijet import MultiJet
from sciml.errors import InvalidArgument

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable

CONVOLUTIONS = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}


@dataclass
class Use:
    """One use of a layer.

    Attributes:
        layer: Name of the layer.
        known: What is known at once, `(S, N, k)` in slots: inputs, or adjoints if transposed.
        handle: Tensor in the graph whose gradient, brought into slots, is the other factor.
        transposed: Whether `known` belongs to the layer's outputs.
        ones: `(S,)`, 1 in slots where the bias enters.
        conv: Whether the handle has its channels at axis 1.
    """

    layer: str
    known: Tensor
    handle: Tensor
    transposed: bool
    ones: Tensor
    conv: bool = False

    def slots(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the handle in slots `(S, N, k)`."""
        return _conv_slots(gradient) if self.conv else _slots(gradient)


def _slots(x: Tensor) -> Tensor:
    """Return `(N, *, k)` as `(S, N, k)`; jets `(C, N, k)` are marked by the caller."""
    return x.reshape(len(x), -1, x.shape[-1]).transpose(0, 1)


def _conv_slots(x: Tensor) -> Tensor:
    """Return `(N, channels, *positions)` as `(S, N, channels)`."""
    return x.flatten(2).permute(2, 0, 1)


@dataclass
class JetUse(Use):
    """A use by a jet: channels are the slots already."""

    def slots(self, gradient: Tensor) -> Tensor:
        """Return the gradient as it is."""
        return gradient


class Capture(TorchFunctionMode):
    """Records the uses of layers while it is entered.

    Args:
        layers: `nn.Linear` and `nn.Conv1d/2d/3d` modules by name.

    Attributes:
        uses: One entry per use that has a graph, in order.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = {id(layer.weight): name for name, layer in layers.items()}
        self.layers = layers
        self.uses: list[Use] = []
        self._open = False

    def __enter__(self) -> Capture:
        """Start recording."""
        self._open = True
        return super().__enter__()

    def __exit__(self, *details: Any) -> None:
        """Stop recording; backward passes of the graph no longer leave uses."""
        self._open = False
        super().__exit__(*details)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Record uses of registered weights; leave everything else alone."""
        kwargs = kwargs or {}
        weight = _weight(function, args, kwargs)
        if weight is None or not torch.is_grad_enabled() or _transformed():
            return function(*args, **kwargs)
        name = self.names.get(id(weight))
        if name is None:
            return function(*args, **kwargs)
        if function is F.linear:
            return self._linear(name, *args, **kwargs)
        return self._convolution(name, function, *args, **kwargs)

    # --- kinds of use -------------------------------------------------------------------------
    def _linear(
        self, name: str, input: Differentiable, weight: Tensor, bias: Tensor | None = None
    ) -> Differentiable:
        if isinstance(input, Coordinates) and input.x.requires_grad:
            input = input.write_out()  # a reverse pass down to x will use the weight again
        if isinstance(input, Coordinates):
            # The rules gather the columns they need; only what went in is written out, gradless.
            with torch.no_grad():
                jet = input.write_out()
                known = fused.pack(jet.value, jet.derivatives)
            out = F.linear(input, weight, bias)
            handle = fused.pack(out.value, out.derivatives)
            self._record_jet(name, known, handle)
            return unpack(handle, out.frame)
        if isinstance(input, Jet):
            packed = input.packed
            packed = fused.pack(input.value, input.derivatives) if packed is None else packed
            handle = _Affine.apply(packed, weight, bias, self, name, True)
            self._record_jet(name, packed, handle)
            return unpack(handle, input.frame)
        if isinstance(input, MultiJet):
            handle = _Affine.apply(input.packed, weight, bias, self, name, True)
            self._record_jet(name, input.packed, handle)
            return input.like(handle)
        handle = _Affine.apply(input, weight, bias, self, name, False)
        known = _slots(input.detach())
        self.uses.append(Use(name, known, handle, False, known.new_ones(len(known))))
        return handle

    def _record_jet(self, name: str, known: Tensor, handle: Tensor) -> None:
        ones = known.new_zeros(len(known))
        ones[0] = 1.0
        self.uses.append(JetUse(name, known.detach(), handle, False, ones))

    def _convolution(
        self, name: str, function: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        layer = self.layers[name]
        handle = function(input, *args, **kwargs)
        with torch.no_grad():
            known = patches(input, layer)
        ones = known.new_ones(len(known))
        self.uses.append(Use(name, known, handle, False, ones, conv=True))
        return handle

    def record_transposed(self, name: str, rows: Tensor, result: Tensor, jet: bool) -> None:
        """Record `result = rows W` inside a reverse pass that will be differentiated."""
        if self._open and result.requires_grad:
            kind = JetUse if jet else Use
            known = rows.detach() if jet else _slots(rows.detach())
            self.uses.append(kind(name, known, result, True, known.new_zeros(len(known))))


class _Affine(torch.autograd.Function):
    """`x W^T + b`, which tells the capture where its backward pass uses W."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        capture: Capture,
        name: str,
        jet: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        # Weak: the capture holds handles, whose graph holds this context; nothing collects that.
        ctx.capture, ctx.name, ctx.jet = weakref.ref(capture), name, jet
        y = fused.multiply(x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)
        if bias is not None:
            if jet:
                y[0] += bias
            else:
                y += bias
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        x, weight = ctx.saved_tensors
        again = torch.is_grad_enabled()
        times = fused.differentiable_multiply if again else fused.multiply
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        rows, inputs = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
        for_x = for_weight = for_bias = None
        if need_x:
            for_x = times(rows, weight.t()).view(x.shape)
            capture = ctx.capture() if again else None
            if capture is not None:
                capture.record_transposed(ctx.name, g, for_x, ctx.jet)
        if need_weight:
            for_weight = times(rows.t(), inputs.t())
        if need_bias:
            for_bias = g[0].sum(0) if ctx.jet else rows.sum(0)
        return for_x, for_weight, for_bias, None, None, None


def _weight(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tensor | None:
    if function is not F.linear and function not in CONVOLUTIONS:
        return None
    return kwargs["weight"] if "weight" in kwargs else args[1]


def _transformed() -> bool:
    return torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling()


def patches(x: Tensor, layer: nn.Module) -> Tensor:
    """Return what a convolution multiplies with its kernel: `(S, N, groups * C/g * kernel)`.

    Args:
        x: What the functional convolution received, `(N, C, *sizes)`.
        layer: `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`; stride, padding of any mode and dilation
            are honoured. With groups, the last axis holds one block per group.
    """
    if layer.padding_mode == "zeros":  # in the other modes the layer has padded x itself
        x = F.pad(x, layer._reversed_padding_repeated_twice)
    spatial = len(layer.kernel_size)
    for i in range(spatial):
        reach = layer.dilation[i] * (layer.kernel_size[i] - 1) + 1
        x = x.unfold(2 + i, reach, layer.stride[i])[..., :: layer.dilation[i]]
    n, c = x.shape[:2]
    positions = range(2, 2 + spatial)
    kernel = range(2 + spatial, 2 + 2 * spatial)
    return x.permute(*positions, 0, 1, *kernel).reshape(-1, n, c * _product(layer.kernel_size))


def _product(sizes: Iterable[int]) -> int:
    out = 1
    for size in sizes:
        out *= size
    return out


def affine_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return the layers a capture can record: affine, real, trainable, each weight once.

    A layer below a module that overrides `forward` in ways of its own is still recorded by its
    weight; `check_uses` finds out whether that was enough.
    """
    out: dict[str, nn.Module] = {}
    seen: set[int] = set()
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    for name, layer in module.named_modules():
        if not isinstance(layer, kinds) or isinstance(layer, nn.LazyLinear):
            continue
        weight = layer.weight
        if not weight.requires_grad or weight.is_complex() or id(weight) in seen:
            continue
        seen.add(id(weight))
        out[name] = layer
    return out


def require_layers(layers: Mapping[str, nn.Module], owner: str) -> None:
    """Refuse a module without any layer to record.

    Raises:
        InvalidArgument: If there is none.
    """
    if not layers:
        raise InvalidArgument(
            f"a module without affine layers for {owner}",
            "at least one nn.Linear or convolution with real weights",
            "Type optimizer=adam",
        )
