"""Equilibrium neural operator (EquiNO): the homogenised law of a cell from its stress branch.

With fixed modes of the stress, each of them in equilibrium, and their means H over the cell,

    s(x) = sum_k b_k(ehat) Phi_k(x),     shat = b(ehat) H,     Chat = d b / d ehat H,

whatever b is, the stress is in equilibrium. The coefficients are

    b(ehat) = L ehat + scale * [MLP(ehat / box) - MLP(-ehat / box)] / 2,

a linear skip L from least squares on snapshots, which is the small-strain law, and a perceptron for
the rest. Its odd part is taken: phases whose energy is the same at e and -e answer -e with -s, and
so does a cell of them; half of the strains need to be learned, and none gives no stress. Where that
is not so, MLP(ehat / box) - MLP(0) keeps zero at zero. Inference needs b and H, no modes, no mesh.

The tangent is the exact derivative of the branch: three tangent vectors are carried forward through
the layers together with the values, in one batch of matrix products.

Source: Eivazi et al., arXiv 2504.07976. Departures: the linear skip, the odd part and the anchoring
at zero, each of which can be switched off.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.sizes import check_sizes
from sciml.typed_arguments import typed

SPREAD = 1e-9  # of the coefficients: least scale of a mode that the skip fits as it is
FLOOR = 0.02  # of the box: smaller strains than this weigh no more in the fit of the skip


class Branch(nn.Module):
    """Coefficients of modes as a function of the macro strain.

    Args:
        modes: Coefficients r.
        width: Hidden width.
        depth: Hidden layers.
        box: Strains of training lie in [-box, box]^3.
        linear: Whether there is a linear skip.
        anchor: Whether the value at zero strain is zero.
        odd: Whether the value at -e is minus that at e, which includes `anchor`.

    Shapes: strain `(..., 3)` to `(..., r)`.
    """

    def __init__(
        self,
        modes: int = 16,
        width: int = 64,
        depth: int = 4,
        box: float = 0.04,
        linear: bool = True,
        anchor: bool = True,
        odd: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(modes=modes, width=width)
        if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
            raise InvalidArgument(f"network.depth={depth}", "at least one hidden layer")
        if not 0 < box < 1:
            raise InvalidArgument(f"network.box={box}", "a strain between 0 and 1")
        self.modes, self.box, self.linear = modes, float(box), linear
        self.anchor, self.odd = anchor, odd
        sizes = [3, *[width] * depth]
        self.hidden = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.output = nn.Linear(width, modes)
        self.register_buffer("skip", torch.zeros(modes, 3))
        self.register_buffer("scale", torch.ones(modes))
        self.register_buffer("shift", torch.zeros(modes))

    def twin(self) -> Branch:
        """Return another branch of the same sizes with weights of its own."""
        sizes = self.modes, self.output.in_features, len(self.hidden)
        return Branch(*sizes, self.box, self.linear, self.anchor, self.odd)

    @torch.no_grad()
    def standardise(self, strain: Tensor, coefficients: Tensor) -> None:
        """Set skip, scale and shift from snapshots, in double precision.

        The skip is the fit of least squares with rows divided by their strain, so that small
        strains count; the scale is the spread of what it leaves, mode by mode. Without a skip,
        the published form: one mean and one spread of all coefficients.

        Args:
            strain: `(P, 3)`.
            coefficients: `(P, r)`.
        """
        strain, coefficients = strain.double(), coefficients.double()
        if not self.linear:
            ones = torch.ones_like(coefficients[0])
            self.scale = coefficients.std() * ones
            self.shift = (0.0 if self.anchor or self.odd else coefficients.mean()) * ones
            return
        size = (strain.square().sum(1, keepdim=True) + (FLOOR * self.box) ** 2).sqrt()
        # not gelsy, the default: it starts from pivots that nobody set and rounds as they fall
        fit = torch.linalg.lstsq(strain / size, coefficients / size, driver="gelsd")
        found = fit.solution
        self.skip = found.T.contiguous()
        left = (coefficients - strain @ found).square().mean(0).sqrt()
        self.scale = left.clamp_min(SPREAD * float(coefficients.std()))
        self.shift = torch.zeros_like(left)

    def _perceptron(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = nn.functional.silu(layer(x))
        return self.output(x)

    def forward(self, strain: Tensor) -> Tensor:
        """Return coefficients `(..., r)`."""
        x = strain / self.box
        value = self._perceptron(x)
        if self.odd:
            value = (value - self._perceptron(-x)) / 2
        elif self.anchor:
            # zero strain once per row: optimizers that take rows for samples see no mixing
            value = value - self._perceptron(torch.zeros_like(x))
        value = value * self.scale + self.shift
        return value + strain @ self.skip.T if self.linear else value

    def with_tangent(self, strain: Tensor, means: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return coefficients `(N, r)` and their derivatives `(N, r, 3)` at strains `(N, 3)`.

        Args:
            strain: `(N, 3)`.
            means: `(r, c)`, to return these combinations `(N, c)` of the coefficients, and their
                derivatives, at the cost of c outputs.
        """
        x = strain / self.box
        if self.odd:
            x = torch.cat([x, -x])
        elif self.anchor:
            x = torch.cat([x, torch.zeros_like(x[:1])])
        slope = None  # (3, N, width), with respect to the three components
        for layer in self.hidden:
            if slope is None:
                slope = (layer.weight.T / self.box)[:, None]
            else:
                slope = _rows(slope, layer.weight)
            z = layer(x)
            gate = torch.sigmoid(z)
            x = z * gate
            slope = slope * torch.addcmul(gate, x, 1 - gate)
        weight, bias = self.output.weight * self.scale[:, None], self.output.bias * self.scale
        shift, skip = self.shift, self.skip
        if means is not None:
            weight, bias = means.T @ weight, bias @ means
            shift, skip = shift @ means, means.T @ skip
        value, slope = nn.functional.linear(x, weight, bias), _rows(slope, weight)
        if self.odd:
            (one, other), slopes = value.chunk(2), slope.chunk(2, 1)
            value, slope = (one - other) / 2, (slopes[0] + slopes[1]) / 2
        elif self.anchor:
            value, slope = value[:-1] - value[-1:], slope[:, :-1]
        value, slope = value + shift, slope.permute(1, 2, 0)
        if self.linear:
            value, slope = value + strain @ skip.T, slope + skip
        return value, slope


def _rows(slope: Tensor, weight: Tensor) -> Tensor:
    """Return `slope W^T` `(3, N, b)` as one product of matrices.

    Left to itself, torch makes one or three of it as the weights are trained or not, and rounds
    differently.
    """
    out = nn.functional.linear(slope.reshape(-1, slope.shape[2]), weight)
    return out.view(*slope.shape[:2], -1)


@typed
class EquiNO(nn.Module):
    """Homogenised stress and tangent of a cell.

    Args:
        modes: Stress modes r.
        width: Hidden width of the branch.
        depth: Its hidden layers.
        box: Strains of training lie in [-box, box]^3.
        linear: Linear skip.
        anchor: No stress at zero strain.
        odd: Minus the stress at minus the strain, and so none at zero.
        unit: Unit of the stress.

    Shapes: strain `(N, 3)`, (exx, eyy, gxy) with engineering shear, to stress `(N, 3)`.

    Example:
        >>> import sciml
        >>> law = sciml.load_pretrained("equino_rve1")
        >>> found = law.predict(strain=[[0.02, 0.0, 0.0]])
        >>> tuple(found["stress"].shape), tuple(found["tangent"].shape)
        ((1, 3), (1, 3, 3))
    """

    def __init__(
        self,
        modes: int = 16,
        width: int = 64,
        depth: int = 4,
        box: float = 0.04,
        linear: bool = True,
        anchor: bool = True,
        odd: bool = False,
        unit: str = "N/mm^2",
    ) -> None:
        super().__init__()
        self.branch = Branch(modes, width, depth, box, linear, anchor, odd)
        self.box, self.unit = float(box), unit
        # modes that are the three components themselves: a law without a cell behind it;
        # no torch.eye, which on the meta device of loading imports for two seconds
        self.register_buffer("means", torch.zeros(modes, 3).fill_diagonal_(1.0))

    @property
    def modes(self) -> int:
        """Return the number of modes."""
        return self.branch.modes

    def forward(self, strain: Tensor) -> Tensor:
        """Return the homogenised stress `(..., 3)`."""
        return self.branch(strain) @ self.means

    def stress_and_tangent(
        self, strain: Tensor, *, symmetric: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return shat `(N, 3)` and Chat `(N, 3, 3)` in one pass.

        Args:
            strain: `(N, 3)`.
            symmetric: Return the symmetric part of Chat, for solvers that need one. The exact
                derivative of shat is symmetric only as far as training has made it so, and with
                it alone Newton's method is quadratic.
        """
        stress, tangent = self.branch.with_tangent(strain, self.means)
        if symmetric:
            tangent = (tangent + tangent.mT) / 2
        return stress, tangent

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what the operator takes and returns."""
        return {
            "inputs": {"strain": {"shape": ["N", 3], "unit": "1", "dtype": "float"}},
            "outputs": {
                "stress": {"shape": ["N", 3], "unit": self.unit},
                "tangent": {"shape": ["N", 3, 3], "unit": self.unit},
            },
        }

    def infer(self, strain: Tensor) -> dict[str, Tensor]:
        """Return stress and tangent."""
        stress, tangent = self.stress_and_tangent(strain)
        return {"stress": stress, "tangent": tangent}
