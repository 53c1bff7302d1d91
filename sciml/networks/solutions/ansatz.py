"""The trial functions of a system: one network, its inputs, constraints built in, named outputs.

    (u, v, ...) = hard(network(inputs(x, t, ...)), x, t, ...)

Inputs are the variables scaled to [-1, 1] over the domain; a periodic one enters by cosines and
sines of its first `modes` harmonics, which makes every output periodic with all derivatives
(Dong and Ni 2021, arXiv 2007.07442); a mirrored one by one cosine, which makes the network even
about the ends of equal parts. One of `waves` enters as it is and by cosines and sines of its
angular frequencies. What the system's `inputs` returns of the variables comes before them: a
function whose Laplacian jumps where the solution's does, say, so that a smooth network of it can do
so, too. `hard` is the system's own, see `System.hard`. All of it works on tensors and on jets
alike. The system is used by its methods only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciml.autodiff.multi_indices import lattice_of
from sciml.autodiff.multijet import MultiJet, constant, variables
from sciml.errors import InvalidArgument
from sciml.shapes import check_returned
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


def network_sizes(system: Any, modes: int = 1) -> dict[str, int | bool]:
    """Return what the constructor of a network is told: inputs come as features, one per column.

    Args:
        system: Has `region`, `periodic`, `waves`, `inputs` and `outputs`.
        modes: Harmonics of a periodic variable.
    """
    features = sum(2 * modes if v in system.periodic else 1 for v in system.region.variables)
    features += sum(2 * len(frequencies) for frequencies in system.waves.values())
    features += _known_inputs(system, system.region.low[None]).shape[1] if system.inputs else 0
    return {"dim": 0, "time": False, "features": features, "outputs": len(system.outputs)}


def _known_inputs(system: Any, x: Differentiable) -> Differentiable:
    """Return what the system adds to the inputs `(N, m)` of points `(N, D)`, tensor or jet."""
    places = {name: x[:, k : k + 1] for k, name in enumerate(system.region.variables)}
    found = system.known_inputs(places)
    if len(found.shape) != 2 or found.shape[0] != x.shape[0]:
        title = f"{type(system).__name__}.inputs() of shape {tuple(found.shape)}"
        raise InvalidArgument(title, "columns (N, m), made from those of coordinates")
    return found


@typed
class Ansatz(nn.Module):
    """Named outputs of a system at points.

    Args:
        system: The system.
        network: Called as `network(None, None, f)`, f `(N, m)` to `(N, K)`.
        modes: Harmonics of a periodic variable that the network sees.

    Attributes:
        unknowns: The system's unknown constants, trained with the network.

    Raises:
        InvalidArgument: For modes that are not positive.

    Example:
        >>> import torch
        >>> from sciml.networks import MLP, Ansatz
        >>> from sciml.physics.systems import Interval, On, System, Time
        >>> class Rod(System):
        ...     domain = Interval(0, 1) * Time(0, 1)
        ...     conditions = {"ends": On(domain.boundary, u=0)}
        ...     def residual(self, u):
        ...         return u.t - u.xx
        >>> ansatz = Ansatz(Rod(), MLP(dim=0, features=2, width=8, depth=2))
        >>> {name: tuple(value.shape) for name, value in ansatz(torch.rand(5, 2)).items()}
        {'u': (5,)}
    """

    def __init__(self, system: Any, network: nn.Module, modes: int = 1) -> None:
        super().__init__()
        if modes < 1:
            raise InvalidArgument(f"module.modes={modes}", "a positive integer")
        self.system, self.network, self.modes = system, network, modes
        self.unknowns = nn.ModuleDict(system.unknowns)
        middle, half = (system.region.low + system.region.high) / 2, system.region.high
        self.register_buffer("middle", middle)
        self.register_buffer("scale", 1 / (half - middle))
        pairs = [system.scales.get(name, (0.0, 1.0)) for name in system.outputs]
        of_outputs = torch.tensor(pairs, dtype=middle.dtype).unbind(1)
        for name, values in zip(("output_middle", "output_size"), of_outputs, strict=True):
            self.register_buffer(name, values, persistent=False)
        self._affine: bool | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return next((p.dtype for p in self.network.parameters()), self.middle.dtype)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs `(N,)` by name at points `(N, D)`."""
        raw = self._scaled(self._checked(self.network(None, None, self.inputs(x)), len(x)))
        found = self._constrained(raw, x)
        return {name: found[:, k] for k, name in enumerate(self.system.outputs)}

    def jet(self, p: Any, wanted: frozenset, along: tuple[int, ...] | None = None) -> MultiJet:
        """Return the outputs `(N, K)` with derivatives.

        Args:
            p: Points with `x` `(N, D)` and a `cache` for what depends on the points alone.
            wanted: Multi-indices.
            along: Variables, by number, that the multi-indices are about; None for all in order.
        """
        lattice = lattice_of(wanted)
        if p.cache.get(lattice, (None,))[0] != (along,):
            with torch.no_grad():
                x = variables(p.x, lattice, along)
                p.cache[lattice] = [(along,), x, self.inputs(x), None]
        _, x, inputs, known = p.cache[lattice]
        if len(lattice) == 1:  # values alone
            raw = self._checked(self.network(None, None, inputs.value), len(p.x))
            raw = MultiJet(raw[None], lattice)
        else:
            raw = self.network(None, None, inputs)
            self._checked(raw.value, len(p.x))
        raw = self._scaled(raw)
        if self.system.transform is None:
            return raw
        if self._is_affine():
            if known is None:
                with torch.no_grad():
                    known = p.cache[lattice][3] = self._lift(x)
            lift, masks = known
            return masks * raw + lift
        return self._constrained(raw, x)

    def inputs(self, x: Differentiable) -> Differentiable:
        """Return what the network sees `(N, m)` of points `(N, D)`, tensor or jet."""
        scaled = (x - self.middle.to(x.dtype)) * self.scale.to(x.dtype)
        known = [_known_inputs(self.system, x)] if self.system.inputs else []
        if not (self.system.periodic or self.system.waves or self.system.mirrored or known):
            return scaled
        columns = known
        for k, variable in enumerate(self.system.region.variables):
            column = scaled[:, k : k + 1]
            if variable in self.system.mirrored:
                parts = self.system.mirrored[variable]
                columns.append(torch.cos((parts * math.pi / 2) * (column + 1)))
                continue
            if variable not in self.system.periodic:
                columns.append(column)
                for frequency in self.system.waves.get(variable, ()):
                    phase = frequency * x[:, k : k + 1]
                    columns += [torch.cos(phase), torch.sin(phase)]
                continue
            for mode in range(1, self.modes + 1):
                phase = (mode * math.pi) * column
                columns += [torch.cos(phase), torch.sin(phase)]
        return torch.cat(columns, -1)

    # --- as a trained operator --------------------------------------------------------------
    def schema(self) -> dict[str, dict[str, dict]]:
        """Return what `infer` takes and returns."""
        system = self.system
        inputs = {
            v: {"shape": ["N"], "unit": "1", "dtype": "float"} for v in system.region.variables
        }
        return {
            "inputs": inputs,
            "outputs": {name: {"shape": ["N"], "unit": "1"} for name in system.outputs},
        }

    def infer(self, **coordinates: Tensor) -> dict[str, Tensor]:
        """Return the outputs `(N,)` by name at points given by coordinates `(N,)` each."""
        return self(torch.stack([coordinates[v] for v in self.system.region.variables], 1))

    def _scaled(self, raw: Differentiable) -> Differentiable:
        """Return outputs of the network in the units of the system."""
        if not self.system.scales:
            return raw
        return raw * self.output_size.to(raw.dtype) + self.output_middle.to(raw.dtype)

    # --- constraints ------------------------------------------------------------------------
    def _constrained(self, raw: Differentiable, x: Differentiable) -> Differentiable:
        """Return `hard` of raw outputs `(N, K)` and points `(N, D)`, tensors or jets."""
        system = self.system
        if system.transform is None:
            return raw
        title = f"{type(system).__name__}.hard()"
        own = {name: raw[:, k : k + 1] for k, name in enumerate(system.outputs)}
        places = {name: x[:, k : k + 1] for k, name in enumerate(system.region.variables)}
        places["position"] = x[:, : len(system.region.space)]
        constants = {name: c() for name, c in self.unknowns.items()}
        made = system.transform({**places, **own, **constants})
        made = made if isinstance(made, Mapping) else {system.outputs[0]: made}
        for name, value in made.items():
            if name not in own:
                raise InvalidArgument(f"{title} returns '{name}'", f"outputs {system.outputs}")
            if tuple(value.shape) != (x.shape[0], 1):
                check_returned(f"{title}, '{name}'", value, (x.shape[0], 1))
        return torch.cat([made.get(name, own[name]) for name in system.outputs], -1)

    def _is_affine(self) -> bool:
        """Return whether `hard` is B + A n, output by output, with A and B of the points alone.

        Then A and B are computed once per set of points.
        """
        if self._affine is None:
            self._affine = not self.unknowns and self._looks_affine()
        return self._affine

    @torch.no_grad()
    def _looks_affine(self) -> bool:
        generator = torch.Generator().manual_seed(0)
        x = self.system.region.sample(16, generator).to(self.middle.device, self.dtype)
        k = len(self.system.outputs)
        zero, one = x.new_zeros(16, k), x.new_ones(16, k)
        lift = self._constrained(zero, x)
        mask = self._constrained(one, x) - lift
        for _ in range(2):
            n = torch.randn(16, k, generator=generator, dtype=torch.float64).to(x)
            found, wanted = self._constrained(n, x), lift + mask * n
            if not torch.allclose(found, wanted, rtol=1e-4 if x.dtype == torch.float32 else 1e-10):
                return False
        return True

    def _lift(self, x: MultiJet) -> tuple[MultiJet, MultiJet]:
        k = len(self.system.outputs)
        zero = x.value.new_zeros(len(x.value), k)
        lift = self._constrained(constant(zero, x.lattice), x)
        both = self._constrained(constant(zero + 1, x.lattice), x)
        return lift, both - lift

    def _checked(self, raw: Tensor, n: int) -> Tensor:
        k = len(self.system.outputs)
        if tuple(raw.shape) == (n, k):
            return raw
        title = f"network ({type(self.network).__name__})"
        return check_returned(title, raw, (n, k), what=f"the outputs {self.system.outputs}")
