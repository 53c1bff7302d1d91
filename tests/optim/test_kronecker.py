"""Inverses of Kronecker sums and the factors they are made of, against dense references."""

import pytest
import torch
from torch import nn

from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.jacobian import jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.kronecker import kronecker_sums
from sciml.optim.kronecker.factors import (
    FactorSums,
    average,
    factor_sizes,
    groups_of,
    observe_terms,
)
from sciml.optim.kronecker.kfac import KFAC

torch.set_num_threads(1)
F64 = torch.float64


def spd(size, seed, groups=1):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(groups, size, size + 2, generator=generator, dtype=F64)
    return root @ root.mT / size


def dense(pairs):
    return sum(torch.kron(g, a) for a, g in pairs)


def factors_of(terms, layers, kind="type2", sharing="expand"):
    """Return factors by pair and layer for one call."""
    objective = Objective(terms)
    sums = FactorSums(layers, ones=kind == "forward_only", trace=sharing == "trace")
    sums.add(observe_terms(objective, layers, kind, sharing))
    return sums.reduce(objective)


def gauss_newton(terms, layers, name):
    """Return the dense block of a layer, rows of `[W, b]` first."""
    layer = layers[name]
    parameters = list(layer.parameters(recurse=False))
    every = [p for other in layers.values() for p in other.parameters(recurse=False)]
    rows = jacobian_of(Objective(terms), layers, every).dense()
    start = 0
    for p in every:
        if p is layer.weight:
            break
        start += p.numel()
    sizes = [p.numel() for p in parameters]
    weight = rows[:, start : start + sizes[0]].reshape(len(rows), len(layer.weight), -1)
    if layer.bias is not None:
        bias = rows[:, start + sizes[0] : start + sum(sizes)]
        weight = torch.cat([weight, bias[:, :, None]], 2)
    flat = weight.flatten(1)
    return flat.t() @ flat


# --- inverses -----------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["exact", "factored", "same"])
@pytest.mark.parametrize("groups", [1, 3])
def test_one_pair_divides_as_its_formula_says(mode, groups):
    a, g = spd(5, 0, groups), 3 * spd(4, 1, groups)
    damping = torch.tensor(0.37, dtype=F64)
    v = torch.randn(groups, 4, 5, dtype=F64, generator=torch.Generator().manual_seed(2))
    basis = kronecker_sums.decompose([[a, g]], damping, mode)
    by = kronecker_sums.denominator(basis, damping, mode, joint=False)
    got = kronecker_sums.divide(basis, v, by)
    for i in range(groups):
        if mode == "exact":
            matrix = torch.kron(g[i], a[i]) + damping * torch.eye(20, dtype=F64)
        else:
            pi = ((a[i].trace() / 5) / (g[i].trace() / 4)).sqrt()
            left = damping if mode == "same" else damping.sqrt() / pi
            right = damping if mode == "same" else pi * damping.sqrt()
            matrix = torch.kron(
                g[i] + left * torch.eye(4, dtype=F64), a[i] + right * torch.eye(5, dtype=F64)
            )
        expected = torch.linalg.solve(matrix, v[i].flatten()).view(4, 5)
        torch.testing.assert_close(got[i], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("mode", ["exact", "factored", "same"])
def test_two_pairs_divide_by_their_sum(mode):
    pairs = [[spd(5, 0, 2), spd(4, 1, 2)], [10 * spd(5, 2, 2), 0.1 * spd(4, 3, 2)]]
    damping = torch.tensor(1e-3, dtype=F64)
    v = torch.randn(2, 4, 5, dtype=F64)
    basis = kronecker_sums.decompose(pairs, damping, mode)
    got = kronecker_sums.divide(
        basis, v, kronecker_sums.denominator(basis, damping, mode, joint=True)
    )
    for i in range(2):
        matrix = dense([m[i] for m in kronecker_sums.damped(pair, damping, mode)] for pair in pairs)
        expected = torch.linalg.solve(matrix, v[i].flatten()).view(4, 5)
        torch.testing.assert_close(got[i], expected, rtol=1e-10, atol=1e-12)
        if mode == "same":
            plain = [
                [m[i] + damping * torch.eye(len(m[i]), dtype=F64) for m in pair] for pair in pairs
            ]
            torch.testing.assert_close(matrix, dense(plain), rtol=1e-12, atol=1e-10)


def test_pairs_of_zeros_are_left_out_and_pi_is_guarded():
    zero = [torch.zeros(1, 3, 3, dtype=F64), torch.zeros(1, 2, 2, dtype=F64)]
    full = [spd(3, 0), spd(2, 1)]
    assert kronecker_sums.active([zero, full]) == [full]
    assert kronecker_sums.active([zero, zero]) == [zero]
    assert kronecker_sums.balance(torch.zeros(1), torch.zeros(1)) == 1
    assert kronecker_sums.balance(torch.ones(1), torch.zeros(1)) == 1
    assert kronecker_sums.balance(torch.ones(1), torch.full((1,), 1e-30)) == 1e6


# --- factors ------------------------------------------------------------------------------------
def test_blocks_of_a_deep_linear_network_are_exact():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5, bias=False), nn.Linear(5, 2)).double()
    x, y = torch.randn(7, 3, dtype=F64), torch.randn(7, 2, dtype=F64)

    def terms():
        return [LossTerm("data", net(x) - y, 0.6, 7)]

    layers = affine_layers(net)
    for sharing in ("expand", "reduce", "trace"):
        found = factors_of(terms, layers, sharing=sharing)["data"]
        for name in layers:
            block = dense([[m[0] for m in found[name]]])
            expected = gauss_newton(terms, layers, name)
            assert (block - expected).norm() <= 1e-12 * expected.norm()


def test_logits_use_the_hessian_of_the_cross_entropy_and_mc_has_its_mean():
    torch.manual_seed(1)
    layer = nn.Linear(3, 4).double()
    x = torch.randn(6, 3, dtype=F64)
    target = torch.tensor([0, 1, 2, 3, 1, 0])

    def terms():
        return [LossTerm("data", layer(x), 0.6, 6, "categorical", target)]

    layers = {"": layer}
    a, g = factors_of(terms, layers)["data"][""]
    p = layer(x).softmax(1)
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    torch.testing.assert_close(g[0], 0.6 * hessian.mean(0), rtol=1e-12, atol=1e-14)
    z = torch.cat([x, torch.ones(6, 1, dtype=F64)], 1)
    torch.testing.assert_close(a[0], z.t() @ z / 6, rtol=1e-12, atol=1e-14)
    draws = []
    for step in range(1000):
        objective = Objective(terms, step=step)
        sums = FactorSums(layers)
        sums.add(observe_terms(objective, layers, "mc", "expand"))
        draws.append(sums.reduce(objective)["data"][""][1][0])
    draws = torch.stack(draws)
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - g[0]).abs() <= 4 * error + 1e-12).all()
    slope = p - nn.functional.one_hot(target, 4)
    empirical = factors_of(terms, layers, "empirical")["data"][""][1][0]
    torch.testing.assert_close(empirical, 0.6 * slope.t() @ slope / 6, rtol=1e-12, atol=1e-12)
    forward = factors_of(terms, layers, "forward_only")["all"][""]
    torch.testing.assert_close(forward[0], a, rtol=1e-12, atol=1e-14)
    assert torch.equal(forward[1][0], torch.eye(4, dtype=F64))


class Conv(nn.Module):
    def __init__(self, spatial, **options):
        super().__init__()
        kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[spatial]
        self.layer = kind(4, 6, **options)

    def forward(self, x):
        return torch.tanh(self.layer(x)).flatten(1).sum(1)


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_a_kernel_of_one_is_a_linear_layer_on_positions(spatial):
    torch.manual_seed(2)
    conv = Conv(spatial, kernel_size=1).double()
    x = torch.randn(3, 4, *[5, 3, 2][:spatial], dtype=F64)
    linear = nn.Linear(4, 6).double()
    linear.load_state_dict(
        {k: v.reshape(6, *([4] * (k == "weight"))) for k, v in conv.layer.state_dict().items()}
    )
    flat = x.flatten(2).transpose(1, 2)
    for sharing in ("expand", "reduce", "trace"):
        one = factors_of(
            lambda: [LossTerm("d", conv(x), 1.0, 3)], {"l": conv.layer}, sharing=sharing
        )["d"]["l"]
        other = factors_of(
            lambda: [LossTerm("d", torch.tanh(linear(flat)).sum((1, 2)), 1.0, 3)],
            {"l": linear},
            sharing=sharing,
        )["d"]["l"]
        for m, n in zip(one, other, strict=True):
            torch.testing.assert_close(m, n, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "options",
    [{"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2, "groups": 2}, {"bias": False}],
)
def test_one_position_of_one_sample_is_the_dense_jacobian(options):
    """With N = S = 1 expand, reduce and trace are all exact; several positions are for trace."""
    torch.manual_seed(3)
    conv = Conv(2, kernel_size=3, **options).double()
    size = 5 if "dilation" in options else 2 if "padding" in options else 3
    x = torch.randn(1, 4, size, size, dtype=F64)
    mask = torch.zeros_like(conv.layer(x))
    mask[..., 0, 0] = 1.0
    if not options.get("groups"):
        assert mask.flatten(2).shape[2] == 1

    def terms():
        return [LossTerm("d", (conv.layer(x) * mask).flatten(1).sin().sum(1), 1.0, 1)]

    layers = {"l": conv.layer}
    block = gauss_newton(terms, layers, "l")
    groups, o, k = factor_sizes(conv.layer)
    for sharing in ("trace",) if groups > 1 else ("expand", "reduce", "trace"):
        a, g = factors_of(terms, layers, sharing=sharing)["d"]["l"]
        for i in range(groups):
            mine = slice(i * o * k, (i + 1) * o * k)
            expected = block[mine, mine]
            got = torch.kron(g[i], a[i])
            assert (got - expected).norm() <= 1e-12 * expected.norm()


def test_trace_has_the_partial_traces_of_the_dense_block():
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(20, 2)
    ).double()
    x = torch.randn(6, 2, 5, dtype=F64)

    def terms():
        return [LossTerm("d", net(x), 1.0, 6)]

    layers = affine_layers(net)
    found = factors_of(terms, layers, sharing="trace")["d"]
    for name, layer in layers.items():
        groups, o, k = factor_sizes(layer)
        block = gauss_newton(terms, layers, name).view(groups, o, k, groups, o, k)
        for i in range(groups):
            mine = block[i, :, :, i]
            a, g = found[name][0][i], found[name][1][i]
            total = torch.einsum("okok->", mine)
            torch.testing.assert_close(g, torch.einsum("okpk->op", mine), rtol=1e-12, atol=1e-10)
            torch.testing.assert_close(
                a * total, torch.einsum("okol->kl", mine), rtol=1e-12, atol=1e-11
            )


def test_three_terms_share_two_pairs_by_their_number_of_slots():
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(5, 3, dtype=F64)
    tokens = torch.randn(4, 6, 3, dtype=F64)

    layers = affine_layers(net)

    def terms():
        return [
            LossTerm("one", net(x)[:, 0], 1.0, 5),
            LossTerm("tokens", net(tokens).sum((1, 2)), 2.0, 4),
            LossTerm("two", net(2 * x[:3])[:, 0], 3.0, 3),
        ]

    objective = Objective(terms)
    seen = observe_terms(objective, layers, "type2", "expand")
    assert groups_of(seen) == {"one": "values", "two": "values", "tokens": "derivatives"}
    assert groups_of(seen[:2]) == {"one": "one", "tokens": "tokens"}
    sums = FactorSums(layers)
    sums.add(seen)
    found = sums.reduce(objective)
    z = torch.cat([x, 2 * x[:3]])
    z = torch.cat([z, torch.ones(8, 1, dtype=F64)], 1)
    torch.testing.assert_close(found["values"]["0"][0][0], z.t() @ z / 8, rtol=1e-12, atol=1e-11)
    outer = [factors_of(lambda i=i: [terms()[i]], layers) for i in (0, 2)]
    alone = outer[0]["one"]["0"][1] + outer[1]["two"]["0"][1]
    torch.testing.assert_close(found["values"]["0"][1], alone, rtol=1e-12, atol=1e-11)


def test_running_means_start_with_the_first_batch_or_with_the_identity():
    a = [torch.full((1, 2, 2), float(v), dtype=F64) for v in (1, 2, 6)]
    memory: dict = {}
    for m in a:
        average(memory, {"t": {"l": [m, m]}}, 0.95)
    torch.testing.assert_close(
        memory["factors"]["t"]["l"][0], torch.full((1, 2, 2), 3.0).double(), rtol=1e-12, atol=1e-11
    )
    memory = {}
    for m in a:
        average(memory, {"t": {"l": [m, m]}}, 0.5, start=4.0)
    expected = 0.5**3 * 4 * torch.eye(2) + 1 * 0.125 + 2 * 0.25 + 6 * 0.5
    torch.testing.assert_close(
        memory["factors"]["t"]["l"][0][0], expected.double(), rtol=1e-12, atol=1e-11
    )


def test_ekfac_denominators_are_the_diagonal_in_the_eigenbasis():
    """For layers used once (S = 1) and several times, several terms, groups."""
    torch.manual_seed(6)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(20, 2)
    ).double()
    x = torch.randn(6, 2, 5, dtype=F64)

    def terms():
        return [LossTerm("a", net(x), 0.5, 6), LossTerm("b", net(x[:3] ** 2), 1.5, 3)]

    optimizer = KFAC(net, ekfac=True, damping=1e-2, step="lr", momentum=0.0, lr=1.0)
    objective = Objective(terms)
    optimizer.update_curvature(objective)
    gradient = torch.autograd.grad(sum(t.loss() for t in objective.terms()), optimizer.treated)
    start = [p.detach().clone() for p in optimizer.treated]
    blocks = {name: gauss_newton(terms, optimizer.layers, name) for name in optimizer.layers}
    for p, g in zip(optimizer.treated, gradient, strict=True):
        p.grad = g
    optimizer.step()
    for name, layer in optimizer.layers.items():
        groups, o, k = factor_sizes(layer)
        left, right = optimizer.memory["bases"][name][:2]
        for i in range(groups):
            mine = slice(i * o * k, (i + 1) * o * k)
            q = torch.kron(left[i], right[i])
            expected = (q.t() @ blocks[name][mine, mine] @ q).diagonal().view(o, k)
            got = optimizer.memory["moments"][name][i]
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-13)
        index = [i for i, p in enumerate(optimizer.treated) if p is layer.weight][0]
        v = torch.cat([gradient[index].flatten(1), gradient[index + 1][:, None]], 1)
        v = v.view(groups, o, k)
        for i in range(groups):
            q = torch.kron(left[i], right[i])
            by = optimizer.memory["moments"][name][i].flatten() + 1e-2
            d = (q @ ((q.t() @ v[i].flatten()) / by)).view(o, k)
            moved = (start[index] - layer.weight).flatten(1).view(groups, o, -1)[i]
            torch.testing.assert_close(moved, d[:, :-1], rtol=1e-9, atol=1e-12)
