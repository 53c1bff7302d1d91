"""The trial solution `u = A n + B`: a network, its problem-informed inputs and the hard constraint.

`A` and `B` come from the problem (`lift`), so boundary and terminal data hold exactly whatever the
network does. The known functions a network takes besides x and t come from `problem.feature`.
Everything here works on tensors and on Taylor jets alike; the problem is used by its methods only,
so this file depends on no particular equation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, did_you_mean
from sciml.shapes import check_returned
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable

COORDINATES = ("x", "t")


def check_inputs(inputs: Sequence[str], problem: Any) -> tuple[str, ...]:
    """Return `inputs` as a tuple after comparing it with what the problem offers.

    Args:
        inputs: Any of "x", "t" and the problem's `feature_names`, each once.
        problem: Has `time_dependent` and `feature_names`.

    Raises:
        InvalidArgument: If the list is empty, repeats a name, names something the problem does
            not offer, or asks for the time of a static problem.
    """
    inputs = tuple(inputs)
    known = COORDINATES[: 1 + bool(problem.time_dependent)] + tuple(problem.feature_names)
    if not inputs or len(set(inputs)) != len(inputs):
        raise InvalidArgument(f"network inputs {list(inputs)}", "at least one name, each once")
    for name in inputs:
        if name not in known:
            raise InvalidArgument(
                f"network input '{name}' for {type(problem).__name__}",
                "a coordinate or one of the problem's features",
                did_you_mean(name, known),
            )
    return inputs


def unknowns_of(problem: Any) -> tuple[nn.ParameterDict, nn.ModuleDict]:
    """Return what a problem wants trained beside the network: its parameters and its modules.

    The tensors are the problem's own: it sees every step, and so do optimizer and checkpoint.

    Raises:
        InvalidArgument: For a tensor that requires a gradient and would never be trained, and for
            parameters inside lists and dictionaries.
    """
    parameters, modules = nn.ParameterDict(), nn.ModuleDict()
    if isinstance(problem, nn.Module):  # whoever holds it has its parameters already
        return parameters, modules
    classes = [vars(cls) for cls in reversed(type(problem).__mro__)]
    attributes = {
        name: value for space in [*classes, vars(problem)] for name, value in space.items()
    }
    for name, value in attributes.items():
        title = f"{type(problem).__name__}.{name}"
        if isinstance(value, nn.Parameter):
            parameters[name] = value
        elif isinstance(value, nn.Module):
            modules[name] = value
        elif _trainable(value):
            raise InvalidArgument(
                f"{title} requires a gradient and is no nn.Parameter: nothing would train it",
                "an nn.Parameter, or a tensor without gradient",
                f"Write self.{name} = nn.Parameter(...)",
            )
        elif isinstance(value, dict | list | tuple) and any(
            _trainable(v) for v in (value.values() if isinstance(value, dict) else value)
        ):
            raise InvalidArgument(
                f"{title} holds parameters in a {type(value).__name__}: nothing would train them",
                "parameters and modules that are attributes of the problem",
                f"Write self.{name} = nn.ParameterList(...), ParameterDict or ModuleList",
            )
    return parameters, modules


def _trainable(value: object) -> bool:
    return isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad)


@typed
class TrialSolution(nn.Module):
    """`u(x, t) = A(x, t) n(x, t, f(x, t)) + B(x, t)`.

    Args:
        problem: Offers `lift(x, t) -> (A, B)`, `feature(name, x, t)`, `feature_names`,
            `time_dependent` and `dim`.
        network: Called as `network(x, t, f)`; every argument it does not take is None.
        inputs: What the network sees: "x", "t" and names of the problem's features, which are
            handed over in this order as `f` `(N, m)`.

    Attributes:
        unknowns: Parameters of the problem, trained with the network.
        parts: Modules of the problem, trained with the network.

    Raises:
        InvalidArgument: If `inputs` names something the problem does not offer, or the problem has
            parameters where nothing would train them.

    Example:
        >>> import torch
        >>> from sciml.networks import MLP, TrialSolution
        >>> from sciml.physics import Poisson
        >>> u = TrialSolution(Poisson(dim=3), MLP(dim=3, width=8, depth=2), ["x"])
        >>> boundary = torch.tensor([[1.0, 0.0, 0.0]])
        >>> tuple(u(torch.rand(5, 3)).shape)
        (5, 1)
        >>> abs(u(boundary).item())  # zero whatever the network says
        0.0
    """

    def __init__(
        self, problem: Any, network: nn.Module, inputs: Sequence[str] = ("x", "t")
    ) -> None:
        super().__init__()
        self.problem = problem
        self.network = network
        self.inputs = check_inputs(inputs, problem)
        self.features = tuple(name for name in self.inputs if name not in COORDINATES)
        self.unknowns, self.parts = unknowns_of(problem)
        self.register_buffer("feature_shift", torch.zeros(len(self.features)))
        self.register_buffer("feature_scale", torch.ones(len(self.features)))

    @torch.no_grad()
    def standardise(self, x: torch.Tensor, t: torch.Tensor | None = None) -> None:
        """Let the network see features with mean 0 and variance 1 over the given points.

        A terminal cost of 6 +- 0.4, say, would otherwise saturate the first layer.

        Args:
            x: Points `(N, d)` of the training law.
            t: Times `(N, 1)` or None.
        """
        for i, name in enumerate(self.features):
            values = self.problem.feature(name, x, t)
            spread = values.std()
            self.feature_shift[i] = values.mean()
            self.feature_scale[i] = spread if spread > 0 else 1.0

    def network_of(
        self, x: Differentiable | None, t: Differentiable | None, f: Differentiable | None
    ) -> Differentiable:
        """Return the network's output `(N, 1)` for coordinates, time and raw features `(N, m)`.

        Raises:
            InvalidArgument: If the network returns another shape, several outputs for instance.
        """
        if f is not None:
            f = (f - self.feature_shift) * (1 / self.feature_scale)
        given = (x if "x" in self.inputs else None, t if "t" in self.inputs else None, f)
        n = self.network(*given)
        rows = next(g.shape[0] for g in given if g is not None)
        if tuple(n.shape) == (rows, 1):
            return n
        title = f"network ({type(self.network).__name__})"
        return check_returned(title, n, (rows, 1), what="the unknown u of one equation per point")

    def raw(self, x: Differentiable, t: Differentiable | None = None) -> Differentiable:
        """Return the network's output n `(N, 1)` at x `(N, d)` and t `(N, 1)`."""
        columns = [self.problem.feature(name, x, t) for name in self.features]
        if len(columns) > 1:
            columns = [torch.cat(columns, dim=-1)]
        return self.network_of(x, t, columns[0] if columns else None)

    def forward(self, x: Differentiable, t: Differentiable | None = None) -> Differentiable:
        """Return the solution u `(N, 1)` at x `(N, d)` and t `(N, 1)` or None."""
        n = self.raw(x, t)
        a, b = self.problem.lift(x, t)
        u = n if a is None else a * n
        return u if b is None else u + b
