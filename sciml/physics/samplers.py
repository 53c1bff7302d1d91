"""Random points in simple domains.

Every function takes a `torch.Generator`, draws on the generator's device and returns a fresh
tensor; nothing reads or writes the global random state. One call consumes a fixed number of
random values for given sizes, so a stream is reproducible from its seed alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed


@typed
def uniform(
    n: int,
    generator: torch.Generator,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, 1)` values uniform on `[low, high)`: times, radii.

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import uniform
        >>> t = uniform(100, torch.Generator().manual_seed(0), high=0.5)
        >>> t.shape, bool((t < 0.5).all())
        (torch.Size([100, 1]), True)
    """
    value = torch.rand(n, 1, generator=generator, device=generator.device, dtype=dtype)
    return value.mul_(high - low).add_(low)


@typed
def gaussian(
    n: int,
    dim: int,
    generator: torch.Generator,
    variance: float | Tensor = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points of N(0, variance I).

    Args:
        n: Number of points.
        dim: Number of coordinates.
        generator: Source of randomness.
        variance: One number, or `(n, 1)` for a variance per point.
        dtype: Floating point type of the result.

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import gaussian
        >>> x = gaussian(10000, 2, torch.Generator().manual_seed(0), variance=4.0)
        >>> round(float(x.std()), 1)
        2.0
    """
    x = torch.randn(n, dim, generator=generator, device=generator.device, dtype=dtype)
    scale = variance.sqrt().to(x) if isinstance(variance, Tensor) else math.sqrt(variance)
    return x.mul_(scale)


@typed
def sphere(
    n: int,
    dim: int,
    generator: torch.Generator,
    radius: float | Tensor = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points uniform on the sphere.

    Args:
        n: Number of points.
        dim: Number of coordinates.
        generator: Source of randomness.
        radius: One number, or `(n, 1)` for a radius per point.
        dtype: Floating point type of the result.

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import sphere
        >>> x = sphere(100, 3, torch.Generator().manual_seed(0), radius=2.0)
        >>> bool(((x.norm(dim=1) - 2).abs() < 1e-5).all())
        True
    """
    x = torch.randn(n, dim, generator=generator, device=generator.device, dtype=dtype)
    # one pass reads, one pass scales: normalising first and multiplying later would cost a third
    return x.mul_(radius / torch.linalg.vector_norm(x, dim=1, keepdim=True))


@typed
def annulus(
    n: int,
    dim: int,
    inner: float,
    outer: float,
    generator: torch.Generator,
    law: str = "radius",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points with `inner <= |x| <= outer` and uniform direction.

    Args:
        n: Number of points.
        dim: Number of coordinates.
        inner: Smallest radius, not negative.
        outer: Largest radius, above `inner`.
        generator: Source of randomness.
        law: `radius`: |x| uniform; `volume`: x uniform, which in high dimension puts all points
            at the outer boundary.
        dtype: Floating point type of the result.

    Raises:
        InvalidArgument: For an empty shell or an unknown law.

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import annulus
        >>> x = annulus(100, 3, 1.0, 2.0, torch.Generator().manual_seed(0))
        >>> x.shape, bool((x.norm(dim=1) > 0.999).all())
        (torch.Size([100, 3]), True)
    """
    if not 0 <= inner < outer:
        raise InvalidArgument(f"inner={inner}, outer={outer}", "0 <= inner < outer")
    if law not in ("radius", "volume"):
        raise InvalidArgument(f"law='{law}'", "'radius' or 'volume'")
    r = uniform(n, generator, dtype=dtype)
    if law == "radius":
        r = r.mul_(outer - inner).add_(inner)
    else:
        # |x|^d is uniform; dividing by `outer` first keeps the power inside the float range
        floor = (inner / outer) ** dim
        r = r.mul_(1 - floor).add_(floor).pow_(1 / dim).mul_(outer)
    return sphere(n, dim, generator, r, dtype)


@typed
def ball(
    n: int,
    dim: int,
    generator: torch.Generator,
    radius: float = 1.0,
    law: str = "radius",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points with `|x| <= radius`; see `annulus` for `law`.

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import ball
        >>> x = ball(100, 3, torch.Generator().manual_seed(0), radius=2.0)
        >>> x.shape, bool((x.norm(dim=1) < 2.001).all())
        (torch.Size([100, 3]), True)
    """
    return annulus(n, dim, 0.0, radius, generator, law, dtype)


@typed
def box(
    n: int,
    dim: int,
    generator: torch.Generator,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points uniform in `[low, high)^dim`.

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import box
        >>> x = box(100, 2, torch.Generator().manual_seed(0), low=-1.0)
        >>> x.shape, bool((x.abs() <= 1).all())
        (torch.Size([100, 2]), True)
    """
    x = torch.rand(n, dim, generator=generator, device=generator.device, dtype=dtype)
    return x.mul_(high - low).add_(low)


@typed
def box_boundary(
    n: int,
    dim: int,
    generator: torch.Generator,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points uniform on the surface of the box `[low, high]^dim`.

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import box_boundary
        >>> x = box_boundary(100, 2, torch.Generator().manual_seed(0))
        >>> bool(((x == 0) | (x == 1)).any(dim=1).all())  # one coordinate at an end
        True
    """
    device = generator.device
    x = box(n, dim, generator, low, high, dtype)
    axis = torch.randint(dim, (n, 1), generator=generator, device=device)
    side = torch.randint(2, (n, 1), generator=generator, device=device)
    return x.scatter_(1, axis, torch.where(side == 1, high, low).to(dtype))


@typed
def brownian(
    x0: float | Tensor,
    t: Tensor,
    dim: int,
    generator: torch.Generator,
    diffusion: float = math.sqrt(2),
) -> Tensor:
    """Return `x0 + diffusion * W_t` for Brownian motion W, points `(n, dim)`.

    Args:
        x0: Start: one number for all coordinates, or `(n, dim)`.
        t: Elapsed time `(n, 1)`, not negative; its dtype is the result's.
        dim: Number of coordinates.
        generator: Source of randomness.
        diffusion: Factor of W; sqrt(2) for the generator "Laplacian".

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import brownian
        >>> x = brownian(1.0, torch.zeros(3, 1), 2, torch.Generator().manual_seed(0))
        >>> x.tolist()  # no time has passed
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    step = gaussian(t.shape[0], dim, generator, diffusion**2 * t, t.dtype)
    return step.add_(x0)


@typed
def brownian_paths(
    paths: int,
    steps: int,
    dim: int,
    final_time: float,
    generator: torch.Generator,
    diffusion: float = math.sqrt(2),
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Return points of `diffusion * W` along whole paths that start at the origin.

    Args:
        paths: Number of independent paths.
        steps: Time steps per path.
        dim: Number of coordinates.
        final_time: End of the paths.
        generator: Source of randomness.
        diffusion: Factor of W.
        dtype: Floating point type of the result.

    Returns:
        x `(paths, steps + 1, dim)` and the times `(steps + 1,)`.

    Example:
        >>> import torch
        >>> from sciml.physics.samplers import brownian_paths
        >>> x, t = brownian_paths(5, 4, 2, 1.0, torch.Generator().manual_seed(0))
        >>> x.shape, t.tolist()
        (torch.Size([5, 5, 2]), [0.0, 0.25, 0.5, 0.75, 1.0])
    """
    dt = final_time / steps
    step = gaussian(paths * steps, dim, generator, diffusion**2 * dt, dtype)
    x = torch.zeros(paths, steps + 1, dim, device=step.device, dtype=dtype)
    torch.cumsum(step.view(paths, steps, dim), dim=1, out=x[:, 1:])
    t = torch.linspace(0.0, final_time, steps + 1, device=step.device, dtype=dtype)
    return x, t
