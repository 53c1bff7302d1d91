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


def uniform(
    n: int,
    generator: torch.Generator,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, 1)` values uniform on `[low, high)`: times, radii."""
    value = torch.rand(n, 1, generator=generator, device=generator.device, dtype=dtype)
    return value.mul_(high - low).add_(low)


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
    """
    x = torch.randn(n, dim, generator=generator, device=generator.device, dtype=dtype)
    scale = variance.sqrt().to(x) if isinstance(variance, Tensor) else math.sqrt(variance)
    return x.mul_(scale)


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
    """
    x = torch.randn(n, dim, generator=generator, device=generator.device, dtype=dtype)
    # one pass reads, one pass scales: normalising first and multiplying later would cost a third
    return x.mul_(radius / torch.linalg.vector_norm(x, dim=1, keepdim=True))


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


def ball(
    n: int,
    dim: int,
    generator: torch.Generator,
    radius: float = 1.0,
    law: str = "radius",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points with `|x| <= radius`; see `annulus` for `law`."""
    return annulus(n, dim, 0.0, radius, generator, law, dtype)


def box(
    n: int,
    dim: int,
    generator: torch.Generator,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points uniform in `[low, high)^dim`."""
    x = torch.rand(n, dim, generator=generator, device=generator.device, dtype=dtype)
    return x.mul_(high - low).add_(low)


def box_boundary(
    n: int,
    dim: int,
    generator: torch.Generator,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return `(n, dim)` points uniform on the surface of the box `[low, high]^dim`."""
    device = generator.device
    x = box(n, dim, generator, low, high, dtype)
    axis = torch.randint(dim, (n, 1), generator=generator, device=device)
    side = torch.randint(2, (n, 1), generator=generator, device=device)
    return x.scatter_(1, axis, torch.where(side == 1, high, low).to(dtype))


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
    """
    step = gaussian(t.shape[0], dim, generator, diffusion**2 * t, t.dtype)
    return step.add_(x0)


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
    """
    dt = final_time / steps
    step = gaussian(paths * steps, dim, generator, diffusion**2 * dt, dtype)
    x = torch.zeros(paths, steps + 1, dim, device=step.device, dtype=dtype)
    torch.cumsum(step.view(paths, steps, dim), dim=1, out=x[:, 1:])
    t = torch.linspace(0.0, final_time, steps + 1, device=step.device, dtype=dtype)
    return x, t
