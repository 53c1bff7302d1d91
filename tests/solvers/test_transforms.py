"""Under torch.func, torch.compile, autocast, copies, and two ranks: equal to eager, or an error."""

import copy
import gc
import pickle

import pytest
import torch
import torch.distributed as dist
from problems import KINDS, D, P
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sciml.errors import InvalidArgument
from sciml.solvers import (
    GMRES,
    Anderson,
    Dense,
    FixedPointIteration,
    Implicit,
    Segments,
    WarmStart,
    fixed_point,
)
from sciml.testing.ranks import run_ranks

func = torch.func
W = 0.3 * torch.randn(D, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

TRANSFORMS = {
    "grad": lambda f, x: func.grad(f)(x[0]),
    "jvp": lambda f, x: func.jvp(f, (x[0],), (x[1],))[1],
    "vmap": lambda f, x: func.vmap(f)(x),
    "vmap of grad": lambda f, x: func.vmap(func.grad(f))(x),
    "grad of vmap": lambda f, x: func.grad(lambda y: func.vmap(f)(y).square().sum())(x),
    "jacrev of grad": lambda f, x: func.jacrev(func.grad(f))(x[0]),
    "jacfwd of grad": lambda f, x: func.jacfwd(func.grad(f))(x[0]),
    "jacrev of jacfwd": lambda f, x: func.jacrev(func.jacfwd(f))(x[0]),
    "jacfwd of jacfwd": lambda f, x: func.jacfwd(func.jacfwd(f))(x[0]),
    "vmap of hessian": lambda f, x: func.vmap(func.hessian(f))(x),
    "vmap of vmap": lambda f, x: func.vmap(func.vmap(f))(x.reshape(2, 2, *x.shape[1:])),
}


LINEAR = {"Dense": Dense(), "GMRES": GMRES(rtol=1e-13)}
CASES = [
    (kind, name, linear)
    for kind in KINDS
    for name in TRANSFORMS
    for linear in LINEAR
    # minima are slow to find; the derivative's path is the same
    if linear == "Dense" or kind not in ("minimise", "least_squares") or name == "vmap of grad"
]


@pytest.mark.parametrize("kind, name, linear", CASES)
def test_transforms_equal_those_of_the_explicit_twin(kind, name, linear):
    implicit, explicit = KINDS[kind]
    rule, x = Implicit(LINEAR[linear], order=2), torch.randn(4, P, D)
    got = TRANSFORMS[name](lambda b: implicit(W, b, rule).sin().sum(), x)
    wanted = TRANSFORMS[name](lambda b: explicit(W, b).sin().sum(), x)
    assert (got - wanted).abs().max() < 1e-8 * max(1, wanted.abs().max())


def test_vmap_over_parameters_and_the_report_per_problem():
    w, b = 0.3 * torch.randn(5, D, D), torch.randn(P, D)

    def solve(w):
        out = fixed_point(
            lambda z, w, b: torch.tanh(z @ w.mT + b), torch.zeros(P, D), (w, b), on_failure="raise"
        )
        assert out.stats["evaluations"] > 0
        return out.value, out.status, out.iterations

    values, status, iterations = func.vmap(solve)(w)
    assert values.shape == (5, P, D) and status.shape == iterations.shape == (5, P)
    for k in range(5):
        value, _, count = solve(w[k])
        assert (values[k] - value).abs().max() < 1e-12 and torch.equal(iterations[k], count)


def test_vmap_on_graphs():
    layout = Segments(torch.tensor([0, 1, 0, 1, 1]), 2)
    a = torch.rand(5, 5) * (layout.index[:, None] == layout.index) * 0.3
    b = torch.randn(3, 5, 2)

    def solve(b, linear=None):
        return (
            fixed_point(
                lambda h, b: torch.tanh(a @ h) + b,
                torch.zeros(5, 2),
                (b,),
                layout=layout,
                adjoint=Implicit(linear),
                on_failure="raise",
            )
            .value.sin()
            .sum()
        )

    for linear in (Dense(), GMRES(rtol=1e-13)):
        got = func.vmap(func.grad(lambda b, s=linear: solve(b, s)))(b)
        wanted = torch.stack([func.grad(solve)(b[k]) for k in range(3)])
        assert (got - wanted).abs().max() < 1e-9


def test_a_captured_tensor_is_right_or_refused():
    def f(w):
        return fixed_point(
            lambda z: torch.tanh(z @ w.mT + 1), torch.zeros(P, D), on_failure="raise"
        ).value.sum()

    def explicit(w):
        z = torch.zeros(P, D)
        for _ in range(100):
            z = torch.tanh(z @ w.mT + 1)
        return z.sum()

    assert (func.grad(f)(W) - func.grad(explicit)(W)).abs().max() < 1e-9
    tangent = torch.ones_like(W)
    got, wanted = (func.jvp(g, (W,), (tangent,))[1] for g in (f, explicit))
    assert abs(got - wanted) < 1e-8
    with pytest.raises(InvalidArgument, match=r"Pass it through theta"):
        func.vmap(f)(torch.stack([W, 0.5 * W]))


def layer(b):
    """Return a loss of an equilibrium, for the compiler."""
    return (
        fixed_point(
            lambda z, b: torch.tanh(z @ W.mT + b), torch.zeros_like(b), (b,), on_failure="raise"
        )
        .value.sin()
        .sum()
    )


def test_compiled_code_is_right_or_refuses():
    """torch 2.13 drops custom backward rules under compile(grad(f)) and returns zeros."""
    b = torch.randn(P, D)
    wanted = func.grad(layer)(b)
    x = b.clone().requires_grad_()
    compiled = torch.compile(lambda b: layer(2 * b), backend="aot_eager")
    compiled(x).backward()
    twice = b.clone().requires_grad_()
    layer(2 * twice).backward()
    assert torch.equal(x.grad, twice.grad)
    for make in (
        lambda: torch.compile(func.grad(layer), backend="aot_eager")(b),
        lambda: torch.compile(lambda b: func.vmap(func.grad(layer))(b[None])[0], backend="eager")(
            b
        ),
    ):
        try:
            got = make()
        except (RuntimeError, AssertionError):  # from torch: graph break inside a transform
            continue
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)
    with pytest.raises(RuntimeError):
        torch.compile(layer, fullgraph=True, backend="eager")(b)


class Equilibrium(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(D, D)
        with torch.no_grad():
            self.inner.weight *= 0.3
        self.rule = Implicit(GMRES(), warm_start=WarmStart())

    def forward(self, x):
        return fixed_point(
            lambda z, x: torch.tanh(self.inner(z) + x),
            torch.zeros_like(x),
            (x,),
            adjoint=self.rule,
            on_failure="raise",
        ).value


def test_autocast_is_off_inside():
    torch.set_default_dtype(torch.float32)
    model, x = Equilibrium(), torch.randn(P, D)
    plain = model(x)
    plain.sum().backward()
    wanted = model.inner.weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = model(x)
        assert z.dtype == torch.float32 and torch.equal(z, plain)
    z.sum().backward()
    assert torch.allclose(model.inner.weight.grad, wanted, rtol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x.bfloat16()).dtype == torch.float32


def test_used_twice_in_series_copied_pickled_and_in_eval_mode():
    model, x = Equilibrium(), torch.randn(P, D)

    def explicit(x):
        z = torch.zeros_like(x)
        for _ in range(100):
            z = torch.tanh(model.inner(z) + x)
        return z

    def gradients(f, owner):
        loss = (f(x) * f(f(x) + 1)).sum()
        return torch.autograd.grad(loss, list(owner.parameters()))

    wanted = gradients(explicit, model)
    fresh = copy.deepcopy(model)
    model(x).sum().backward()  # the warm start now holds something
    for used in (model, fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model)).eval()):
        for g, v in zip(gradients(used, used), wanted, strict=True):
            assert (g - v).abs().max() < 1e-8
    assert set(model.state_dict()) == {"inner.weight", "inner.bias"}


class Saved:
    """Bytes that autograd keeps for the backward pass."""

    def __init__(self):
        self.total = 0

    def pack(self, t):
        self.total += t.numel() * t.element_size()
        return t


@pytest.mark.parametrize("solver", [FixedPointIteration, Anderson])
def test_memory_does_not_grow_with_iterations(solver):
    w = torch.randn(32, 32)
    w = (0.9999 * w / torch.linalg.matrix_norm(w, 2)).requires_grad_()
    kept = []
    for steps in (5, 500):
        saved = Saved()
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda t: t):
            out = fixed_point(
                lambda z, w: z @ w.mT + 1,
                torch.zeros(8, 32),
                (w,),
                solver=solver(max_iter=steps, rtol=1e-15),
                on_failure="best",
            )
        kept.append(saved.total)
        assert out.value.requires_grad
    assert 0 < kept[0] == kept[1]


@pytest.mark.usefixtures("own_objects")
def test_no_graph_is_left_behind():
    model, x = Equilibrium(), torch.randn(P, D)

    def tensors():
        gc.collect()
        return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())

    counts = []
    for steps in (2, 8):
        for _ in range(steps):
            model(x).sum().backward()
            model.zero_grad()
        counts.append(tensors())
    assert counts[0] == counts[1]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = Equilibrium(), nn.Linear(D, 1)

    def forward(self, x):
        return self.head(self.layer(x)).square().mean()


def rank_batch(rank):
    """Return the samples of a rank; those of rank 1 take far fewer iterations."""
    torch.manual_seed(1)
    return torch.randn(2, 4, D)[rank] * (2.0 if rank == 0 else 1e-3)


def _rank(rank, folder):
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = DistributedDataParallel(Model())
    for _ in range(2):
        model.zero_grad()
        model(rank_batch(rank)).backward()
    if rank == 0:
        torch.save([p.grad for p in model.parameters()], f"{folder}/grads")
    del model  # what waits for the group ends before it
    dist.destroy_process_group()


def test_two_ranks_give_the_gradient_of_one_process(tmp_path):
    run_ranks(_rank, (tmp_path,), 2)
    model = Model()
    (0.5 * (model(rank_batch(0)) + model(rank_batch(1)))).backward()
    for p, found in zip(model.parameters(), torch.load(tmp_path / "grads"), strict=True):
        assert (p.grad - found).abs().max() < 1e-10
