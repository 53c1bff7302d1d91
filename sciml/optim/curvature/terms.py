"""The terms of a loss in the form curvature needs: residuals before they are squared.

Every kind of term is a sum over samples n of a function of the outputs f_n (residuals, or logits),

    loss = scale * sum_n phi(f_n),     Hessian of phi at f_n = Lambda_n = sum_c l_c l_c^T,

with the scale of `LossTerm.scale`. Gradient and Gauss-Newton matrix in the parameters follow from
the Jacobians J_n of the outputs: `g = scale sum_n J_n^T slope_n`, `H = scale sum_n J_n^T Lambda_n
J_n`. For residuals phi = |f|^2 / 2, slope = f and Lambda = 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sciml.arguments import either, flag, real, shown, tensor, text, whole
from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import check_tensor

KINDS = {"name": text, "weight": either(real, tensor), "count": whole, "idle": flag}


@dataclass
class LossTerm:
    """One weighted term of a loss over the global batch.

    Kinds: `residual` and `gaussian` (a prediction minus its target), with the loss
    `weight / count * sum(residual^2)`; `categorical` (logits with class numbers as target), with
    the loss `weight / count * sum(cross entropy)`.

    Attributes:
        name: Name in the logs.
        residual: Residuals or logits of this rank `(n,)` or `(n, m)`, with graph.
        weight: Weight of the term.
        count: Number of samples in the global batch, all ranks together.
        kind: What the residual is.
        target: Class numbers `(n,)` of a categorical term.
        idle: Whether some rows belong to no sample that counts: they are zero, and `count` leaves
            them out. There may then be more rows than `count`.
    """

    name: str
    residual: Tensor
    weight: float
    count: int
    kind: Literal["residual", "gaussian", "categorical"] = "residual"
    target: Tensor | None = None
    idle: bool = False

    def __post_init__(self) -> None:
        """Check that the parts fit.

        Raises:
            InvalidType: For a name, weight or count that is none.
            InvalidArgument: For an unknown kind, a weight per sample, logits without targets,
                residuals that are no tensor with one row per sample, or more rows than samples.
        """
        for field, kind in KINDS.items():
            if wanted := kind(getattr(self, field)):
                raise InvalidType(f"LossTerm.{field} is {shown(getattr(self, field))}", wanted)
        title = f"the residual of the loss term '{self.name}'"
        check_tensor(title, self.residual, "a tensor (n,) or (n, m), one row per sample", "is")
        if not self.residual.dim():
            raise InvalidArgument(
                f"{title} is one number",
                "a tensor (n,) or (n, m), one row per sample",
                "Leave squares, sums and means to the loss",
            )
        if self.count < 1 or (len(self.residual) > self.count and not self.idle):
            raise InvalidArgument(
                f"{title} has {len(self.residual)} rows, with count={self.count}",
                "count, the number of samples in the global batch, of at least that: the loss is "
                "divided by it",
                f"Write LossTerm('{self.name}', residual, weight, len(residual)) on one rank, or "
                "idle=True where the rows beyond are zeros",
            )
        if getattr(self.weight, "shape", ()):
            raise InvalidArgument(
                f"the loss term '{self.name}' with a weight of shape {tuple(self.weight.shape)}",
                "one number",
                "Multiply the residual by the square root of weights per sample",
            )
        if self.kind not in ("residual", "gaussian", "categorical"):
            raise InvalidArgument(f"a loss term of kind {self.kind!r}", "residual or categorical")
        if self.kind == "categorical" and self.target is None:
            raise InvalidArgument(
                f"the categorical loss term '{self.name}' without target",
                "class numbers (n,)",
                "Write LossTerm(..., kind='categorical', target=labels)",
            )
        if self.kind == "categorical":
            shape, labels = tuple(self.residual.shape), tuple(self.target.shape)
            if len(shape) != 2 or shape[1] < 2 or labels != shape[:1]:
                raise InvalidArgument(
                    f"logits of shape {shape} and targets of shape {labels} in the loss term "
                    f"'{self.name}'",
                    "logits (n, classes) of two classes or more, class numbers (n,)",
                    "Write target[:, 0] for a column; one column per class, not one number per "
                    "sample",
                )

    @property
    def outputs(self) -> Tensor:
        """Residuals or logits as `(n, m)`, with graph."""
        return self.residual.reshape(len(self.residual), -1)

    @property
    def scale(self) -> float:
        """Factor of the sum over samples: `2 weight / count`, or `weight / count` for logits."""
        return (1.0 if self.kind == "categorical" else 2.0) * self.weight / self.count

    def loss(self, world: int = 1) -> Tensor:
        """Return this rank's share of the loss, scaled for gradients averaged over ranks."""
        if self.kind == "categorical":
            total = F.cross_entropy(self.outputs, self.target, reduction="sum")
        else:
            total = self.residual.square().sum()
        return self.weight * world / self.count * total

    def slope(self) -> Tensor:
        """Return the derivative of phi at every sample's outputs `(n, m)`, without graph."""
        f = self.outputs.detach()
        if self.kind != "categorical":
            return f
        return f.softmax(1) - F.one_hot(self.target, f.shape[1]).to(f)

    def roots(self) -> Tensor:
        """Return columns `l_c` `(c, n, m)` of a square root of every sample's Lambda."""
        f = self.outputs.detach()
        n, m = f.shape
        if self.kind != "categorical":
            return torch.eye(m, dtype=f.dtype, device=f.device)[:, None].expand(m, n, m)
        p = f.softmax(1)
        root = p.sqrt()
        return torch.diag_embed(root).movedim(1, 0) - root.t()[:, :, None] * p[None]

    def through_root(self, change: Tensor) -> Tensor:
        """Return `l_c . change_n` of all columns of `roots`, `(n, c)`, for changes `(n, m)`."""
        if self.kind != "categorical":
            return change
        p = self.outputs.detach().softmax(1).to(change)
        return p.sqrt() * (change - (p * change).sum(1, keepdim=True))

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return random vectors `(n, m)` with mean zero and covariance Lambda, sample by sample.

        Rademacher for residuals; for logits `softmax - onehot(y)` with y drawn from the softmax.
        """
        f = self.outputs.detach()
        if self.kind != "categorical":
            shape, device = f.shape, generator.device
            signs = torch.randint(0, 2, shape, generator=generator, device=device)
            return (2 * signs - 1).to(f)
        p = f.softmax(1)
        drawn = torch.multinomial(p.to(generator.device), 1, generator=generator)[:, 0]
        return p - F.one_hot(drawn.to(p.device), f.shape[1]).to(f)


def total_loss(terms: Iterable[LossTerm], world: int = 1) -> Tensor:
    """Return the sum of the terms' losses, see `LossTerm.loss`."""
    return sum(term.loss(world) for term in terms)
