"""GaLore and Natural GaLore against AdamW, naive transcriptions and their own accounting."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sciml.errors import InvalidArgument
from sciml.optim.low_rank.galore import GaLore
from sciml.optim.low_rank.natural_galore import NaturalGaLore
from sciml.optim.low_rank.projection import (
    account_of,
    fit_budget,
    lift,
    project,
    random_basis,
    rotate,
    sides_of,
    singular_basis,
    total_account,
)
from sciml.testing.ranks import run_ranks

torch.set_num_threads(1)
SHAPES = [(6, 9), (9, 6), (7, 7), (5,), (8, 3, 2), (2, 11), ()]


def parameters(dtype=torch.float64, shapes=SHAPES):
    g = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=g, dtype=dtype)) for s in shapes]


def gradients(steps, dtype=torch.float64, shapes=SHAPES):
    g = torch.Generator().manual_seed(1)
    return [[torch.randn(s, generator=g, dtype=dtype) for s in shapes] for _ in range(steps)]


def feed(optimizer, params, sequence):
    """Take one step per list of gradients; return copies of the parameters."""
    for grads in sequence:
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [p.detach().clone() for p in params]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def close(a, b, tolerance=1e-12):
    return all((x - y).norm() <= tolerance * y.norm() for x, y in zip(a, b, strict=True))


# --- closed cases -------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
@pytest.mark.parametrize(("cls", "extra"), [(GaLore, {}), (NaturalGaLore, {"history": 0})])
def test_full_rank_is_adamw_bit_for_bit(dtype, cls, extra):
    options = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-7, "weight_decay": 0.1}
    sequence = gradients(12, dtype)
    params = parameters(dtype)
    wanted = feed(torch.optim.AdamW(params, foreach=False, **options), params, sequence)
    params = parameters(dtype)
    found = feed(cls(params, rank=9, update_every=3, **options, **extra), params, sequence)
    assert equal(found, wanted)


@pytest.mark.parametrize("side", ["short", "long", "left", "right", "full"])
def test_no_history_is_galore(side):
    params, others, sequence = parameters(), parameters(), gradients(7)
    options = {"rank": 3, "update_every": 4, "side": side}
    wanted = feed(GaLore(params, **options), params, sequence)
    found = feed(NaturalGaLore(others, history=0, **options), others, sequence)
    assert equal(found, wanted)


def naive(theta, sequence, *, side, r, every, lr, scale, betas, eps, decay, s, damping, refresh):
    """Transcribe the algorithms for one matrix, with a dense Fisher matrix."""
    n, m = theta.shape
    two = side == "full"
    left = two or side == "left" or (side == "short" and n <= m) or (side == "long" and n > m)
    right = two or not left
    basis, moments, kept = None, (0.0, 0.0), []
    for t, gradient in enumerate(sequence):
        if t % every == 0:
            u, _, vh = torch.linalg.svd(gradient)
            new = (
                u[:, :r] if left else torch.eye(n, dtype=theta.dtype),
                vh[:r].t() if right else torch.eye(m, dtype=theta.dtype),
            )
            if basis is not None and refresh == "rotate":
                kept = [new[0].t() @ basis[0] @ k @ basis[1].t() @ new[1] for k in kept]
                # torch.linalg.svd chose signs: Adam's moments are kept as numbers in those
            elif refresh == "clear":
                kept = []
            basis = new
        low = basis[0].t() @ gradient @ basis[1]
        if s:
            kept = [*kept, low][-s:]
            columns = torch.stack([k.flatten() for k in kept], dim=1)
            fisher = damping * torch.eye(low.numel(), dtype=low.dtype) + columns @ columns.t()
            low = torch.linalg.solve(fisher, low.flatten()).view_as(low)
        mean = betas[0] * moments[0] + (1 - betas[0]) * low
        square = betas[1] * moments[1] + (1 - betas[1]) * low**2
        moments = (mean, square)
        mean, square = mean / (1 - betas[0] ** (t + 1)), square / (1 - betas[1] ** (t + 1))
        step = basis[0] @ (mean / (square.sqrt() + eps)) @ basis[1].t()
        theta = theta * (1 - lr * decay) - lr * scale * step
    return theta


CASES = [
    *[((6, 9), side, "rotate", 3) for side in ("short", "long", "left", "right", "full")],
    ((9, 6), "short", "rotate", 3),
    ((9, 6), "long", "rotate", 3),
    ((7, 7), "short", "rotate", 3),
    ((7, 7), "long", "rotate", 3),
    ((6, 9), "short", "clear", 3),
    ((9, 6), "full", "clear", 3),
    ((6, 9), "short", "keep", 3),
    ((6, 9), "short", "keep", 0),
    ((9, 6), "full", "keep", 0),
]


@pytest.mark.parametrize(("shape", "side", "refresh", "s"), CASES)
def test_equals_the_naive_transcription(monkeypatch, shape, side, refresh, s):
    # Moments survive a refresh as numbers, so both must agree on the signs of singular vectors.
    monkeypatch.setattr("sciml.optim.low_rank.projection._oriented", lambda columns: columns)
    params = parameters(shapes=[shape])
    sequence = gradients(11, shapes=[shape])
    common = {"lr": 0.05, "scale": 0.5, "betas": (0.7, 0.9), "eps": 1e-6, "side": side}
    wanted = naive(
        params[0].detach(),
        [g for (g,) in sequence],
        r=4,
        every=5,
        decay=0.2,
        s=s,
        damping=0.1,
        refresh=refresh,
        **common,
    )
    optimizer = NaturalGaLore(
        params,
        rank=4,
        update_every=5,
        weight_decay=0.2,
        history=s,
        damping=0.1,
        on_refresh=refresh,
        **common,
    )
    assert close(feed(optimizer, params, sequence), [wanted], 1e-10)


# --- bases --------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7)])
@pytest.mark.parametrize("kind", ["svd", "random"])
def test_columns_are_orthonormal(dtype, shape, kind):
    matrix = torch.randn(shape, dtype=dtype)
    sides = ("left", "right")
    basis = (
        singular_basis(matrix, 4, sides)
        if kind == "svd"
        else random_basis(matrix, 4, sides, (1, 2))
    )
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    for columns in basis.values():
        assert (columns.mH @ columns - torch.eye(4)).norm() < tolerance
        top = columns.gather(0, columns.abs().argmax(dim=0, keepdim=True))
        assert (top - top.abs()).norm() < tolerance  # the orientation every library arrives at
    low = project(matrix, basis)
    assert (project(lift(low, basis), basis) - low).norm() < 10 * tolerance
    other = random_basis(matrix, 4, sides, (3,))
    wanted = project(lift(low, basis), other)
    assert (rotate(low, basis, other) - wanted).norm() < 10 * tolerance


def test_side_follows_the_shape():
    assert sides_of((6, 9), "short") == sides_of((9, 6), "long") == ("left",)
    assert sides_of((9, 6), "short") == sides_of((6, 9), "long") == ("right",)
    assert sides_of((7, 7), "short") == ("left",) and sides_of((7, 7), "long") == ("right",)
    assert sides_of((4, 3, 5), "short") == ("left",) and sides_of((9, 3, 2), "short") == ("right",)


@pytest.mark.parametrize("kind", ["svd", "random"])
def test_basis_changes_only_every_t_steps(kind):
    params = parameters(shapes=[(6, 9)])
    optimizer = GaLore(params, rank=2, update_every=3, basis=kind)
    seen = []
    for grads in gradients(7, shapes=[(6, 9)]):
        feed(optimizer, params, [grads])
        seen.append(optimizer.state[params[0]]["basis_left"].clone())
    same = [torch.equal(a, b) for a, b in zip(seen, seen[1:], strict=False)]
    assert same == [True, True, False, True, True, False]


def test_bfloat16_and_complex_parameters_move_within_the_basis():
    for dtype, shape in [(torch.bfloat16, (12, 9)), (torch.complex64, (5, 4, 3, 2))]:
        params, sequence = parameters(dtype, [shape]), gradients(4, dtype, [shape])
        before = params[0].detach().clone()
        optimizer = NaturalGaLore(params, rank=2, history=3, update_every=10)
        moved = (feed(optimizer, params, sequence)[0] - before).reshape(shape[0], -1)
        state = optimizer.state[params[0]]
        assert not state["exp_avg_sq"].is_complex() and moved.isfinite().all()
        assert moved.norm() > 0 and state["exp_avg"].dtype == dtype
        if dtype.is_complex:
            assert torch.linalg.matrix_rank(moved, rtol=1e-4) == 2


# --- memory -------------------------------------------------------------------------------------
@pytest.mark.parametrize("side", ["short", "long", "full"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("history_dtype", [None, "bfloat16"])
def test_account_equals_the_bytes_held(side, dtype, history_dtype):
    params = parameters(dtype)
    optimizer = NaturalGaLore(
        params, rank=3, side=side, history=4, history_dtype=history_dtype, update_every=2
    )
    feed(optimizer, params, gradients(3, dtype))
    tensors = [
        v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)
    ]
    assert optimizer.account().total == sum(t.numel() * t.element_size() for t in tensors)


def test_account_of_the_worked_examples():
    square = torch.nn.Parameter(torch.empty(1024, 1024))
    assert account_of(square, 256, "short").total / account_of(square, 256, "short").adam == 0.375
    natural = account_of(square, 256, "short", 20)
    assert abs(natural.total / natural.adam - 2.875) < 1e-3  # and the 20 x 20 inner products
    assert abs(account_of(square, 256, "full", 20).total / natural.adam - 0.94) < 0.01
    small = account_of(torch.empty(256, 256), 16, "short", 20)
    assert abs(small.total / small.adam - 0.72) < 0.01
    assert "0.375 of" not in str(natural) and "2.88 of plain Adam" in str(natural)


def test_budget_is_kept_and_used():
    params = parameters(torch.float32, [(64, 96), (96, 64), (96,)])
    full = total_account(params, 32, "short", 10).total
    for budget in (full, full // 2, full // 7):
        optimizer = NaturalGaLore(params, rank=32, history=10, budget=budget)
        assert 0.8 * budget < optimizer.account().total <= budget
        group = optimizer.param_groups[0]
        assert (group["rank"], group["history"]) == fit_budget(params, budget, 32, "short", 10)
    assert (group["rank"], group["history"]) != (32, 10)
    assert GaLore(params, rank=32, budget=full // 7).account().total <= full // 7
    with pytest.raises(InvalidArgument, match=r"budget=100 bytes.*at least [\d,]+ bytes"):
        GaLore(params, budget=100)


# --- state --------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex64])
@pytest.mark.parametrize("history_dtype", [None, "bfloat16", "float64"])
def test_state_restores_exactly(tmp_path, dtype, history_dtype):
    options = {"rank": 3, "update_every": 5, "history": 4, "history_dtype": history_dtype}
    sequence = gradients(20, dtype)
    params = parameters(dtype)
    wanted = feed(NaturalGaLore(params, **options), params, sequence)
    params = parameters(dtype)
    optimizer = NaturalGaLore(params, **options)
    feed(optimizer, params, sequence[:13])  # a basis is three steps old
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = [torch.nn.Parameter(p.detach().clone()) for p in params]
    optimizer = NaturalGaLore(again, **options)
    optimizer.load_state_dict(state)
    assert equal(feed(optimizer, again, sequence[13:]), wanted)


def test_closure_groups_and_parameters_without_gradient():
    params = parameters()
    groups = [{"params": params[:2], "rank": 2}, {"params": params[2:], "lr": 0.0}]
    optimizer = NaturalGaLore(groups, rank=4, history=2)
    before = [p.detach().clone() for p in params]

    def closure():
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in params[1:])
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0
    assert optimizer.state[params[1]]["basis_right"].shape == (6, 2)
    assert torch.equal(params[0], before[0]) and not torch.equal(params[1], before[1])
    assert equal(params[2:], before[2:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 0}, "optimizer.rank=0"),
        ({"update_every": 0}, "optimizer.update_every=0"),
        ({"side": "std"}, "optimizer.side=std"),
        ({"basis": "svdd"}, "Did you mean 'svd'"),
        ({"history": -1}, "optimizer.history=-1"),
        ({"damping": 0.0}, "optimizer.damping=0.0"),
        ({"on_refresh": "rotated"}, "Did you mean 'rotate'"),
        ({"history_dtype": "int8"}, "history_dtype=int8"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(InvalidArgument, match=words):
        NaturalGaLore(parameters(), **options)


# --- ranks --------------------------------------------------------------------------------------
def _train(rank, world):
    """Take five steps on a ragged batch of a small net; the gradient is the global mean's."""
    from sciml.optim.low_rank.mfac import MFAC

    out = {}
    for name, make in {
        "svd": lambda p: NaturalGaLore(p, lr=0.05, rank=2, history=3, update_every=2),
        # Off the diagonal, P^T M Q is rounding at a refresh, which Adam divides by eps.
        "full": lambda p: GaLore(p, lr=0.05, eps=1e-4, rank=2, side="full", update_every=2),
        "random": lambda p: NaturalGaLore(p, lr=0.05, rank=2, history=3, basis="random"),
        "mfac": lambda p: MFAC(p, lr=0.01, history=3),
    }.items():
        torch.manual_seed(0)
        affine = [torch.nn.Linear(n, m) for n, m in [(4, 6), (6, 5), (5, 1)]]
        # without the second tanh the middle gradient has rank one and its basis is rounding
        net = torch.nn.Sequential(affine[0], torch.nn.Tanh(), affine[1], torch.nn.Tanh(), affine[2])
        net = net.double()
        spectral = torch.nn.Parameter(torch.randn(5, 4, dtype=torch.complex128))
        params = [*net.parameters(), spectral]
        optimizer = make(params)
        batches = torch.randn(5, 11, 4, dtype=torch.float64)
        for batch in batches:
            mine = batch[rank::world]  # 11 points: never the same number on all ranks
            loss = (net(mine) - mine.sin().sum(1, keepdim=True)).square().sum() / len(batch)
            loss = loss + ((mine + 0j) @ spectral.mT - 1).abs().square().sum() / len(batch)
            for p, g in zip(params, torch.autograd.grad(loss, params), strict=True):
                if world > 1:
                    dist.all_reduce(g)
                p.grad = g
            optimizer.step()
        out[name] = [p.detach() for p in params]
    return out


def _rank(rank, folder):
    torch.set_num_threads(1)
    for world in (3, 2):
        if rank < world:
            store = f"file://{folder}/store{world}"
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
            torch.save(_train(rank, world), f"{folder}/{world}-{rank}.pt")
            dist.destroy_process_group()


def test_ranks_equal_one_process():
    wanted = _train(0, 1)
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(_rank, (folder,), 3)
        for world in (2, 3):
            found = [torch.load(Path(folder) / f"{world}-{rank}.pt") for rank in range(world)]
            for name in wanted:
                assert all(equal(other[name], found[0][name]) for other in found)
                assert close(found[0][name], wanted[name], 1e-12), (world, name)
