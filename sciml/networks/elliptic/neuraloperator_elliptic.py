"""Networks of the neuraloperator library on elliptic problems, on grids and on clouds of points.

    on a grid    u(x) = g(y) + a t(x) N[s, (g - c) / a, f / a, m, ...](x)    N: FNO, TFNO, UNO
    on a cloud   u(x) = c + a N[s, (g - c) / a, f / a](x)                    N: GINO, FNOGNO

    s   signed distance, on grids cut off at half a unit from the boundary
    g   boundary value at the closest boundary point y
    f   source
    m   1 inside, 0 outside; then coefficients of the equation, then the coordinates over `half`
    t   1 - exp(-distance / l), as in `sciml.networks.elliptic.wos_fno`: u = g holds on the
        boundary, as objectives without labels need it
    c   mean of g over the boundary (0 with screening), a the size of g - c and f: shifted and
        scaled data have shifted and scaled solutions, which need not be learned

The networks, their names and those of their options are the library's; only what couples them to
the problem is ours. Kossaifi et al., arXiv 2412.10354 (the library); Li et al., arXiv 2010.08895
(FNO), 2309.00583 (GINO); Rahman et al., arXiv 2204.11127 (UNO). The encoding of clouds is that of
arXiv 2603.01193 but for c and a. FNOGNO reads a grid: every node takes the values of the closest
point of the cloud, and how far away that is.

GINO and FNOGNO take one geometry at a time: problems of a batch run one after the other. Spectral
weights are in single precision whatever is asked for: float64 is refused. None of the networks can
be exported as a program: the library looks at the number of samples, or of neighbours. See
`sciml.networks.neuraloperator_library` for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.elliptic.elliptic_schema import check_box, cloud_schema, grid_schema
from sciml.networks.elliptic.wos_fno import COEFFICIENTS, RAMP
from sciml.networks.neuraloperator_library import make, summed_at_once, tensors_only
from sciml.typed_arguments import typed

CUT = 0.5  # distances on grids are cut off here
GRIDS, CLOUDS = ("FNO", "TFNO", "UNO"), ("GINO", "FNOGNO")


@typed
class NeuralopGrid(nn.Module):
    """A network of neuraloperator for elliptic problems on grids; see the top of its file.

    Takes and returns what `sciml.networks.elliptic.wos_fno.WosFNO` does.

    Args:
        dim: d, 2 or 3.
        half: Half the side of the box that the grid fills.
        nodes: Points per axis of the grid it is trained on.
        coefficients: Names of coefficients beside f and g: "screening", "diffusion".
        model: Which network.
        options: Arguments of its constructor, by the library's names.

    Raises:
        InvalidArgument: For a model or option that the library does not have, or refuses.
        MissingPackage: Without the library.

    Example:
        >>> import torch
        >>> from sciml.networks import NeuralopGrid
        >>> small = {"n_modes": [4, 4], "hidden_channels": 4, "n_layers": 1}
        >>> network = NeuralopGrid(nodes=16, options=small)
        >>> x = torch.linspace(-1.5, 1.5, 16)
        >>> disk = (x[:, None] ** 2 + x**2).sqrt()[None] - 1.0  # signed distance
        >>> tuple(network(disk, torch.zeros(1, 16, 16), torch.ones(1, 16, 16)).shape)
        (1, 16, 16)
    """

    def __init__(
        self,
        dim: int = 2,
        half: float = 1.5,
        nodes: int = 44,
        coefficients: Sequence[str] = (),
        model: Literal["FNO", "TFNO", "UNO"] = "FNO",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_box(half, nodes, dim)
        unknown = [name for name in coefficients if name not in COEFFICIENTS]
        if unknown:
            raise InvalidArgument(f"the coefficient '{unknown[0]}'", "screening or diffusion")
        self.dim, self.half, self.nodes = dim, float(half), nodes
        self.coefficients = tuple(coefficients)
        # The library's own coordinates are kept on the device where they were first used.
        own = {"in_channels": 4 + len(self.coefficients) + dim, "positional_embedding": None}
        self.model = make(model, GRIDS, options or {}, own)
        if self.model.n_dim != dim:
            raise InvalidArgument(
                f"network.options with modes along {self.model.n_dim} axes", f"{dim}, as the data"
            )
        self.register_state_dict_post_hook(tensors_only)

    def forward(
        self,
        sdf: Tensor,
        boundary: Tensor,
        source: Tensor,
        screening: Tensor | None = None,
        diffusion: Tensor | None = None,
    ) -> Tensor:
        """Return u `(N, n, ..., n)` at the nodes of the grid; outside the domain it means nothing.

        Args:
            sdf: `(N, n, ..., n)` signed distance, negative inside.
            boundary: g at the closest boundary point of every node.
            source: f.
            screening: sigma.
            diffusion: alpha, positive.

        Raises:
            InvalidArgument: Without a coefficient that the network was made for, in float64, or
                where the library's network changes the size of the grid.
        """
        fields = {"sdf": sdf, "boundary": boundary, "source": source}
        found = self.learned(**fields, screening=screening, diffusion=diffusion)
        return boundary + _ramp(sdf) * found

    def learned(
        self,
        sdf: Tensor,
        boundary: Tensor,
        source: Tensor,
        screening: Tensor | None = None,
        diffusion: Tensor | None = None,
    ) -> Tensor:
        """Return a N, which the library's network computes, `(N, n, ..., n)`; as `forward`."""
        _single_precision(sdf)
        more = {"screening": screening, "diffusion": diffusion}
        absent = [name for name in self.coefficients if more[name] is None]
        if absent:
            raise InvalidArgument(f"no {absent[0]}", f"the inputs {list(self.schema()['inputs'])}")
        own = (sdf < 0).to(sdf)
        c, size = _level(boundary, torch.exp(-sdf.abs() / RAMP), source, own)
        if "screening" in self.coefficients:  # which shifts solutions by something else
            c = torch.zeros_like(c)
        channels = [sdf.clamp(-CUT, CUT), (boundary - c) / size, source / size, own]
        channels += [more[name] for name in self.coefficients]
        axes = [torch.linspace(-1, 1, n, dtype=sdf.dtype, device=sdf.device) for n in sdf.shape[1:]]
        channels += [x.expand_as(sdf) for x in torch.meshgrid(axes, indexing="ij")]
        found = self.model(torch.stack(channels, 1))[:, 0]
        if found.shape != sdf.shape:
            raise InvalidArgument(
                f"network.options that turn a grid of {tuple(sdf.shape[1:])} into one of "
                f"{tuple(found.shape[1:])}",
                "factors of the resolution whose product is 1",
            )
        return size * found

    def at(self, points: Tensor, distance: Tensor, **inputs: Tensor) -> Tensor:
        """Return u `(N, P)` at any points, by linear interpolation between the nodes inside.

        Args:
            points: `(N, P, d)` in the domains.
            distance: `(N, P)` their signed distances, negative inside: u = g holds exactly.
            inputs: As in `forward`.
        """
        own = (inputs["sdf"] < 0).to(inputs["sdf"])
        fields = torch.stack([inputs["boundary"], own * self.learned(**inputs), own], 1)
        # grid_sample wants the last axis first
        where = (points / self.half).flip(-1).to(fields)
        where = where.reshape(*points.shape[:2], *[1] * (self.dim - 1), self.dim)
        found = F.grid_sample(fields, where, "bilinear", "border", align_corners=True).flatten(2)
        edge, total, share = found.unbind(1)
        return edge + _ramp(distance.to(found)) * total / share.clamp_min(1e-6)

    def schema(self) -> dict:
        """Return names, shapes and units of inputs and outputs."""
        return grid_schema(self.dim, self.coefficients)

    def infer(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the solution at the nodes; the value at the closest point outside."""
        return {"value": torch.where(inputs["sdf"] < 0, self(**inputs), inputs["boundary"])}


@typed
class NeuralopCloud(nn.Module):
    """A network of neuraloperator for Poisson's equation on clouds; see the top of its file.

    Takes and returns what `sciml.networks.elliptic.wos_gino.WosGINO` does. Radii that end sharply
    make the solution jump where a neighbour is lost; with `gno_weighting_function` it has
    derivatives.

    Args:
        half: Half the side of the box of the latent grid.
        nodes: Nodes of the latent grid per axis.
        model: Which network.
        options: Arguments of its constructor, by the library's names.

    Raises:
        InvalidArgument: For a model or option that the library does not have, or refuses.
        MissingPackage: Without the library.

    Example:
        >>> import torch
        >>> from sciml.networks import NeuralopCloud
        >>> small = {"fno_n_modes": [4, 4], "fno_hidden_channels": 8, "fno_n_layers": 1}
        >>> network = NeuralopCloud(nodes=12, options=small)
        >>> points = torch.rand(1, 30, 2) - 0.5
        >>> zero = torch.zeros(1, 30)
        >>> tuple(network(points, zero, zero - 0.1, zero + 1.0).shape)
        (1, 30)
    """

    def __init__(
        self,
        half: float = 1.5,
        nodes: int = 24,
        model: Literal["GINO", "FNOGNO"] = "GINO",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_box(half, nodes)
        self.half, self.nodes = float(half), nodes
        axis = torch.linspace(-half, half, nodes)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
        self.register_buffer("grid", grid, persistent=False)
        own = {"gno_coord_dim": 2, "gno_use_open3d": False, "gno_use_torch_scatter": False}
        if model == "GINO":
            own |= {"in_channels": 3, "fno_in_channels": 3, "latent_feature_channels": None}
        else:
            own |= {"in_channels": 4, "gno_batched": True}
        self.name, self.model = model, make(model, CLOUDS, options or {}, own)
        self.register_state_dict_post_hook(tensors_only)

    def forward(
        self,
        points: Tensor,
        boundary: Tensor,
        distance: Tensor,
        source: Tensor,
        query: Tensor | None = None,
    ) -> Tensor:
        """Return u `(N, Q)` at the query points, or `(N, P)` at the points themselves.

        Args:
            points: `(N, P, 2)` in the domain and on its boundary.
            boundary: `(N, P)` g at the closest boundary point.
            distance: `(N, P)` 0 at boundary points, negative inside.
            source: `(N, P)` f.
            query: `(N, Q, 2)` in the domain.

        Raises:
            InvalidArgument: In float64.
        """
        _single_precision(points)
        edge = (distance > -1e-6).to(boundary)
        c, size = _level(boundary, edge, source, torch.ones_like(edge))
        features = torch.stack([(boundary - c) / size, distance, source / size], 2)
        given = zip(points, features, points if query is None else query, strict=True)
        solve = self._gino if self.name == "GINO" else self._fnogno
        with summed_at_once():
            found = torch.stack([solve(*one) for one in given])
        return c + size * found

    def _gino(self, points: Tensor, features: Tensor, query: Tensor) -> Tensor:
        """Return the solution `(Q,)` of one problem."""
        u = self.model(points[None], self.grid[None], query[None], x=features[None])
        return u[0, :, 0]

    def _fnogno(self, points: Tensor, features: Tensor, query: Tensor) -> Tensor:
        """Return the solution `(Q,)` of one problem."""
        gap, index = torch.cdist(self.grid.flatten(0, 1), points).min(1)
        nodes = torch.cat([features[index], gap[:, None]], 1).view(*self.grid.shape[:2], -1)
        return self.model(in_p=self.grid, out_p=query, f=nodes[None])[0, :, 0]

    def schema(self) -> dict:
        """Return names, shapes and units of inputs and outputs."""
        return cloud_schema()

    def infer(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the solution at the points."""
        return {"value": self(**inputs)}


def _single_precision(x: Tensor) -> None:
    if x.dtype == torch.float64:
        raise InvalidArgument(
            "inputs in float64",
            "float32: spectral weights of neuraloperator are never anything else",
            "Type trainer.precision=32-true",
        )


def _ramp(distance: Tensor) -> Tensor:
    """Return t, 0 on the boundary and outside."""
    return 1 - torch.exp(distance.clamp_max(0) / RAMP)


def _level(g: Tensor, edge: Tensor, f: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of g and the size of what is left and of f, `(N, 1, ...)` for `(N, ...)`.

    Args:
        g: Boundary values.
        edge: Their weights.
        f: Source.
        inside: Its weights.
    """
    axes = tuple(range(1, g.dim()))

    def mean(values: Tensor, weight: Tensor) -> Tensor:
        total = weight.sum(axes, keepdim=True).clamp_min(1e-6)
        return (values * weight).sum(axes, keepdim=True) / total

    c = mean(g, edge)
    # (1 - r^2) f / 4 is the solution in a disk
    square = mean((g - c).square(), edge) + mean(f.square(), inside) / 16
    return c, square.sqrt().clamp_min(1e-6)
