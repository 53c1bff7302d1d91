"""Systems drawn at random, sound and hopeless: what says "converged" has a small true residual.

A system is drawn from a seed, so one that fails can be run again by its number. Its residual is
computed again in float64, from the data as the solver got them.
"""

from __future__ import annotations

import random

import pytest
import torch

from sciml.errors import SciMLError
from sciml.solvers import (
    CG,
    GMRES,
    LBFGS,
    MINRES,
    Anderson,
    BiCGStab,
    Broyden,
    Contraction,
    Dense,
    FixedPointIteration,
    Halpern,
    LevenbergMarquardt,
    Newton,
    NewtonKrylov,
    NormalCG,
    ReversibleIteration,
    fixed_point,
    least_squares,
    linear_solve,
    minimise,
    root,
)

FEW, MANY = 40, 5000
ONCE_WRONG = (333,)  # a short step beside |x|, 13 orders larger than its smallest entry
LINEAR = [CG, MINRES, GMRES, BiCGStab, NormalCG, Dense, Contraction]
FIXED = [FixedPointIteration, Anderson, Broyden, Halpern, ReversibleIteration]
ROOTS = [Newton, NewtonKrylov, Broyden, LevenbergMarquardt]
KINDS = ("linear", "fixed_point", "root", "least_squares", "minimise")
# A float32 solver judges by float32 residuals: their round-off comes on top of its tolerance.
SLACK = 4.0


def drawn(seed):
    """Return the parts of a system: matrix, right-hand side and start, odd in a few ways each."""
    draw, torch_draw = random.Random(seed), torch.Generator().manual_seed(seed)
    n, rows = draw.choice((1, 2, 5, 17)), draw.choice((1, 3, 8))
    dtype = draw.choice((torch.float32, torch.float64))

    def normal(*shape):
        return torch.randn(*shape, generator=torch_draw, dtype=torch.float64)

    law = draw.choice(("good", "good", "spd", "ill", "singular", "skew", "zero", "indefinite"))
    a = torch.eye(n, dtype=torch.float64) + 0.4 * normal(n, n) / n**0.5
    if law == "spd":
        a = a @ a.T
    elif law in ("ill", "singular"):
        u, s, v = torch.linalg.svd(a)
        s = torch.logspace(0, -draw.choice((3, 6, 9)), n, dtype=torch.float64)
        if law == "singular":
            s[-1] = 0
        a = u @ s.diag() @ v
    elif law == "skew":
        a = a - a.T
    elif law == "zero":
        a = torch.zeros_like(a)
    elif law == "indefinite":
        a = (a + a.T) / 2
        a[0, 0] *= -1
    most = 12 if dtype == torch.float32 else 60
    size = 10.0 ** draw.uniform(-most, most) if draw.random() < 0.5 else 1.0
    b, start = normal(rows, n) * size, normal(rows, n) * draw.choice((0.0, 1.0, 1e3))
    for tensor in (b, start):
        if draw.random() < 0.1:
            tensor[draw.randrange(rows)] = draw.choice((float("nan"), float("inf"), 0.0))
    return draw, law, a.to(dtype), b.to(dtype), start.to(dtype)


def bent(a, kind):
    """Return a function of unknowns `(N, n)` whose linear part is `a`, and what it does to them."""
    wave = {"none": lambda z: 0 * z, "tanh": torch.tanh, "cube": lambda z: 0.1 * z**3}
    wave |= {"square": lambda z: z * z + 2, "log": lambda z: z.abs().log(), "pole": lambda z: 1 / z}
    return lambda z: z @ a.to(z.dtype).T + wave[kind](z)


def wrong(seed):
    """Return what is wrong with the answer to the system of a seed, or None."""
    draw, law, a, b, start = drawn(seed)
    kind = draw.choice(KINDS)
    bend = draw.choice(("none", "tanh", "cube", "square", "log", "pole"))
    f = bent(a, bend)
    make = {"linear": LINEAR, "fixed_point": FIXED, "root": ROOTS}.get(kind, [None])
    solver = draw.choice(make)
    rtol = 1e-4 if a.dtype == torch.float32 else 1e-8
    made = {"solver": solver(rtol=rtol)} if solver not in (None, Dense) else {"solver": Dense()}
    if kind == "least_squares":
        made = {"solver": LevenbergMarquardt(rtol=rtol)}
    elif kind == "minimise":
        made = {"solver": LBFGS(rtol=rtol)}
    label = f"{seed}: {kind} {law} {bend} {made['solver']} {a.dtype} {tuple(b.shape)}"
    words = {"on_failure": "best"}
    try:
        if kind == "linear":
            symmetric = bool((a == a.T).all())
            positive = symmetric and bool((torch.linalg.eigvalsh(a.double()) > 0).all())
            flags = {"symmetric": symmetric, "positive_definite": positive}
            out = linear_solve(
                lambda x, a: x @ a.T, b, (a,), linear=made["solver"], **words, **flags
            )
        elif kind == "fixed_point":
            out = fixed_point(lambda z, b: 0.5 * f(z) + b, start, (b,), **made, **words)
        elif kind == "root":
            out = root(lambda z, b: f(z) - b, start, (b,), **made, **words)
        elif kind == "least_squares":
            out = least_squares(lambda z, b: f(z) - b, start, (b,), **made, **words)
        else:
            out = minimise(
                lambda z, b: 0.25 * (f(z) - b).square().sum(-1), start, (b,), **made, **words
            )
    except SciMLError:
        return None  # said in words
    z, b, done = out.value.detach().double(), b.double(), out.converged
    if bool(done.any()) and not bool(z[done].isfinite().all()):
        return f"{label}: converged, and not finite"
    if kind in ("least_squares", "minimise"):
        residual, size = _slopes(f, out.value.detach(), b, start.double(), kind)
    else:
        left = (
            z @ a.double().T if kind == "linear" else 0.5 * f(z) if kind == "fixed_point" else f(z)
        )
        residual = (left + b - z if kind == "fixed_point" else left - b).norm(dim=-1)
        # of the terms that cancel: what their sum cannot see is round-off
        size = left.norm(dim=-1) + b.norm(dim=-1) + (z.abs() @ a.double().abs().T).norm(dim=-1)
        if kind == "root" or solver is Halpern:  # which judge by the start
            first = f(start.double()) - b if kind == "root" else 0.5 * f(start.double()) + b - start
            size = torch.maximum(size, first.norm(dim=-1).nan_to_num(0.0, 0.0, 0.0))
    allowed = SLACK * max(rtol, 1e-5 if a.dtype == torch.float32 else 1e-10)
    bad = done & ~(residual <= allowed * size)
    if kind == "root" and bool(bad.any()):  # or, as documented, a root lies within the tolerance
        step = torch.linalg.lstsq(_columns(f, z), -left[..., None] + b[..., None]).solution[..., 0]
        near = step.norm(dim=-1) <= allowed * z.norm(dim=-1)
        bad &= ~(near & ((f(z + step) - b).norm(dim=-1) <= 0.1 * residual))
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        return f"{label}: row {i} converged, residual {residual[i]:.1e} beside {size[i]:.1e}"
    return None


def _slopes(f, z, b, start, kind):
    """Return the steepness at z `(N,)` and what it has to be small against, as documented.

    Columns are those of the dtype of z: where a float32 tanh is flat nothing can be seen.
    """
    columns, z = _columns(f, z).double(), z.double()

    def slope(x):
        x = x.clone().requires_grad_()
        (found,) = torch.autograd.grad(0.25 * (f(x) - b).square().sum(), x)
        return found

    if kind == "minimise":
        # round-off of the gradient: of a sum of terms this large
        rough = (f(z).abs() + b.abs()).norm(dim=-1) * columns.norm(dim=(-2, -1))
        first = slope(start).norm(dim=-1).nan_to_num(torch.inf, torch.inf)
        return slope(z).norm(dim=-1), torch.maximum(first, rough)
    r = f(z) - b
    cosine = (columns * r[..., None]).sum(-2).abs() / columns.norm(dim=-2).clamp_min(1e-300)
    first = (f(start) - b).norm(dim=-1).nan_to_num(torch.inf, torch.inf)
    rough = (f(z).abs() + b.abs()).norm(dim=-1)
    low = r.norm(dim=-1) <= 1e-4 * torch.maximum(first, rough)
    return torch.where(low, 0.0, cosine.amax(-1)), torch.maximum(r.norm(dim=-1), rough)


def _columns(f, z):
    return torch.func.vmap(torch.func.jacrev(lambda x: f(x[None])[0]))(z)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "seeds",
    [range(FEW), ONCE_WRONG, pytest.param(range(FEW, MANY), marks=pytest.mark.slow)],
    ids=str,
)
def test_nothing_is_called_converged_that_is_not(seeds):
    assert [said for said in map(wrong, seeds) if said] == []
