"""Convergent graph solvers against dense references, bounds and closed forms.

Dense references build I - M with plain indexing, one entry per edge, and solve with torch.linalg.
"""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from sciml.errors import ConvergenceError, InvalidArgument, InvalidType, NumericalWarning
from sciml.networks.graph.contracting_map import PARAMETRISATIONS, contracting_weights
from sciml.networks.graph.convergent import CGS
from sciml.networks.graph.graph_layers import Edges, MessageLayer
from sciml.networks.graph.graph_network import Features
from sciml.networks.graph.graph_solve import (
    EdgeOperator,
    EdgeSolver,
    choose,
    equilibrium,
    error_bound,
    row_norm,
)
from sciml.solvers import Anderson, BiCGStab, Implicit, Segments
from sciml.solvers.algebra.contraction import Contraction

F64 = torch.float64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def multigraphs(sizes=(5, 1, 7), edges=4, seed=0):
    """Return edge_index and batch of random graphs with parallel edges, loops, isolated nodes."""
    g = torch.Generator().manual_seed(seed)
    found, shift = [], 0
    for n in sizes:
        found.append(torch.randint(0, max(n - 1, 1), (2, edges * n), generator=g) + shift)
        shift += n
    index = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return torch.cat(found, 1), index


def weights_for(edges, heads=3, factor=0.9, seed=1, dtype=F64):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(edges.row), heads, generator=g, dtype=dtype)
    return factor * edges.softmax(logits), torch.randn(edges.nodes, heads, generator=g, dtype=dtype)


def dense(edges, m):
    """Return M as `(H, N, N)`, entry by entry."""
    a = torch.zeros(m.shape[1], edges.nodes, edges.nodes, dtype=m.dtype)
    for e, (i, j) in enumerate(zip(edges.row.tolist(), edges.col.tolist(), strict=True)):
        a[:, i, j] = a[:, i, j] + m[e]
    return a


def dense_solution(edges, m, b):
    eye = torch.eye(edges.nodes, dtype=m.dtype)
    return torch.linalg.solve(eye - dense(edges, m), b.T[..., None])[..., 0].T


def network(**more):
    given = {"node_features": 2, "edge_features": 3, "heads": 4, "width": 8, "hidden": 8}
    return CGS(**given | more).double()


def inputs(sizes=(5, 1, 7), seed=0):
    edge_index, batch = multigraphs(sizes, seed=seed)
    g = torch.Generator().manual_seed(seed + 10)
    x = torch.randn(len(batch), 2, generator=g, dtype=F64)
    attr = torch.randn(edge_index.shape[1], 3, generator=g, dtype=F64)
    return {"x": x, "edge_index": edge_index, "edge_attr": attr, "batch": batch}


# --- the contracting map ------------------------------------------------------------------------
@pytest.mark.parametrize("form", PARAMETRISATIONS)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_rows_of_every_parametrisation_sum_to_at_most_one(form, scale):
    edge_index, batch = multigraphs((30, 3), seed=2)
    edges = Edges.build(edge_index, len(batch), batch)
    logits = scale * torch.randn(len(edges.row), 5, dtype=F64)
    a = contracting_weights(logits, edges, form)
    assert a.isfinite().all()
    assert dense(edges, a).abs().sum(-1).max() <= 1 + 1e-12


@pytest.mark.parametrize("form", PARAMETRISATIONS)
def test_maps_of_a_network_contract_by_gamma(form):
    net, given = network(parametrisation=form, gamma=0.97), inputs((30, 4))
    edges = Edges.build(given["edge_index"], 34, given["batch"])
    m, b = net.affine_map(given["x"], 100 * given["edge_attr"], edges)
    assert dense(edges, m).abs().sum(-1).max() <= 0.97 + 1e-12
    assert b.isfinite().all()


def test_a_learned_gamma_stays_below_its_limit_and_gets_a_gradient():
    net = network(learn_gamma=True, gamma=0.5, gamma_limit=0.9)
    assert float(net.map.gamma(torch.zeros(1)).detach().max()) == pytest.approx(0.5)
    net(**inputs()).sum().backward()
    assert net.map.gamma_logit.grad.abs().min() > 0
    net.map.gamma_logit.data.fill_(1e3)
    assert float(net.map.gamma(torch.zeros(1)).detach().max()) <= 0.9


def test_one_gamma_per_head():
    net = network(gamma=[0.1, 0.2, 0.3, 0.4], parametrisation="softmax")
    given = inputs((6,))
    edges = Edges.build(given["edge_index"], 6)
    m, _ = net.affine_map(given["x"], given["edge_attr"], edges)
    sums = edges.sum(m)[edges.degree(m)[:, 0] > 0]
    assert torch.allclose(
        sums, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64).expand_as(sums), rtol=1e-12, atol=1e-12
    )


def test_a_shut_gate_keeps_the_bias_without_cancellation():
    net, given = network(gamma=1 - 1e-9), inputs((6,))
    net.map.gate.weight.data.zero_()
    net.map.gate.bias.data.fill_(-1e3)
    edges = Edges.build(given["edge_index"], 6)
    m, b = net.affine_map(given["x"], given["edge_attr"], edges)
    assert m.abs().max() == 0
    assert b.abs().min() > 1e-6


def test_softmax_of_log_conductance_is_their_weighted_mean():
    edges = Edges.build(torch.tensor([[0, 1, 2], [3, 3, 3]]), 4)
    k = torch.tensor([[1.0], [2.0], [5.0]], dtype=F64)
    assert torch.allclose(edges.softmax(k.log()), k / 8, rtol=1e-12, atol=1e-12)


# --- solutions ----------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["iterate", "bicgstab", "dense", "auto"])
def test_solution_and_gradients_equal_dense_ones(method):
    edge_index, batch = multigraphs()
    edges = Edges.build(edge_index, len(batch), batch)
    m, b = (t.requires_grad_() for t in weights_for(edges))
    g = torch.randn(b.shape, dtype=F64, generator=torch.Generator().manual_seed(9))
    # error <= residual / (1 - 0.9)
    found = equilibrium(edges, m, b, factor=0.9, method=method, on_failure="raise", rtol=1e-12)
    want = dense_solution(edges, m, b)
    assert (found.value - want).abs().max() < 1e-10
    assert found.status.shape == found.residual.shape == (3, 3)
    got = torch.autograd.grad(found.value, (m, b), g)
    ref = torch.autograd.grad(want, (m, b), g)  # dense in between, on edges at its ends
    for one, other in zip(got, ref, strict=True):
        assert (one - other).abs().max() < 1e-8


def test_adjoint_formula_on_edges():
    edge_index, batch = multigraphs()
    edges = Edges.build(edge_index, len(batch), batch)
    m, b = (t.requires_grad_() for t in weights_for(edges))
    h = equilibrium(edges, m, b, factor=0.9, method="dense", on_failure="raise").value
    g = torch.randn(h.shape, dtype=F64)
    grad_m, grad_b = torch.autograd.grad(h, (m, b), g)
    a = torch.eye(edges.nodes) - dense(edges, m.detach())
    u = torch.linalg.solve(a.mT, g.T[..., None])[..., 0].T
    assert torch.allclose(grad_b, u, rtol=1e-12, atol=1e-11)
    assert torch.allclose(grad_m, u[edges.row] * h.detach()[edges.col], rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("phi", [None, torch.tanh, torch.relu])
def test_gradcheck_and_second_derivative(phi):
    edge_index, batch = multigraphs((3, 1), edges=2)
    edges = Edges.build(edge_index, 4, batch)
    m, b = weights_for(edges, heads=1, factor=0.7)
    adjoint = Implicit(order=2)

    def solve(m, b):
        return equilibrium(
            edges,
            m,
            b,
            factor=0.7,
            phi=phi,
            method="dense",
            adjoint=adjoint,
            solver=Anderson(rtol=1e-13) if phi else None,
            on_failure="raise",
        ).value

    given = (m.requires_grad_(), b.requires_grad_())
    assert gradcheck(solve, given)
    if phi is not torch.relu:  # piecewise linear: finite differences may cross a kink
        assert gradgradcheck(solve, given)


def test_gradient_through_the_encoder_equals_that_of_a_dense_network():
    net, given = network(gamma=0.95, edge_bias=True, source=True), inputs()
    torch.nn.init.normal_(net.map.source.weight)
    given["x"].requires_grad_()
    given["edge_attr"].requires_grad_()
    leaves = [given["x"], given["edge_attr"], *net.parameters()]
    got = torch.autograd.grad(net(**given).square().sum(), leaves)
    edges = Edges.build(given["edge_index"], len(given["x"]), given["batch"])
    m, b = net.affine_map(given["x"], given["edge_attr"], edges)
    want = net.decode(dense_solution(edges, m, b), edges).square().sum()
    for one, other in zip(got, torch.autograd.grad(want, leaves), strict=True):
        assert (one - other).abs().max() <= 1e-8 * other.abs().max() + 1e-12


@pytest.mark.parametrize("name", ["relu", "tanh", "softsign"])
def test_nonlinear_fixed_point(name):
    net, given = network(gamma=0.9, phi=name, rtol=1e-12), inputs()
    y, solution = net.solve(**given)
    edges = Edges.build(given["edge_index"], len(given["x"]), given["batch"])
    m, b = net.affine_map(given["x"], given["edge_attr"], edges)
    a, h = dense(edges, m), torch.zeros_like(b)
    for _ in range(400):
        h = net.phi((a @ h.T[..., None])[..., 0].T + b)
    assert solution.status.shape == (3, 4)
    assert (solution.value - h).abs().max() < 1e-10
    y.sum().backward()
    assert net.map.gate.weight.grad.abs().sum() > 0


def test_star_graph_converges_although_its_spectral_norm_is_ten():
    leaves, gamma = 100, 0.5
    hub, rim = torch.zeros(leaves, dtype=torch.long), torch.arange(1, leaves + 1)
    edges = Edges.build(torch.stack([torch.cat([hub, rim]), torch.cat([rim, hub])]), leaves + 1)
    a = 1 / edges.degree(torch.zeros(1, dtype=F64)).index_select(0, edges.row)
    assert float(torch.linalg.matrix_norm(dense(edges, a), 2)) == pytest.approx(10.0)
    b = torch.ones(leaves + 1, 1, dtype=F64)
    found = equilibrium(
        edges, gamma * a, b, factor=gamma, method="iterate", on_failure="raise", rtol=1e-10
    )
    assert torch.allclose(found.value, torch.full_like(b, 2.0), rtol=1e-9, atol=1e-8)
    assert int(found.iterations) == math.ceil(math.log(1e-10) / math.log(gamma))


@pytest.mark.parametrize("rtol", [1e-2, 1e-4])
@pytest.mark.parametrize("method", ["iterate", "bicgstab"])
def test_reported_residuals_bound_errors_forward_and_backward(method, rtol):
    edge_index, batch = multigraphs((20, 9), seed=5)
    edges = Edges.build(edge_index, len(batch), batch)
    m, b = weights_for(edges, heads=2, factor=0.97)
    layout = Segments(batch, 2, per_column=True)
    b.requires_grad_()
    found = equilibrium(edges, m, b, factor=0.97, method=method, on_failure="raise", rtol=rtol)
    error = layout.norm(found.value.detach() - dense_solution(edges, m, b.detach()), math.inf)
    assert (error <= error_bound(edges, m, found.residual)).all()
    assert (error > 0).all()
    g = torch.randn(b.shape, dtype=F64)
    (u,) = torch.autograd.grad(found.value, b, g)
    a = torch.eye(edges.nodes) - dense(edges, m)
    true = torch.linalg.solve(a.mT, g.T[..., None])[..., 0].T
    residual = found.adjoint.outcome.residual
    # equal where the residual has one sign: its sum decays by exactly gamma
    bound = residual / (1 - row_norm(edges, m))
    assert (layout.norm(u - true, 1) <= bound * (1 + 1e-9)).all()


def test_directed_path_decays_by_gamma_per_hop_downstream_only():
    n, k, gamma = 8, 2, 0.9
    path = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    for direction, sign in (("in", 1), ("out", -1)):
        edges = Edges.build(path, n, direction=direction)
        m = gamma * torch.ones(n - 1, 1, dtype=F64)
        b = torch.zeros(n, 1, dtype=F64)
        b[k] = 1.0
        h = equilibrium(edges, m, b, factor=gamma, method="dense", on_failure="raise").value[:, 0]
        distance = sign * (torch.arange(n) - k)
        want = torch.where(distance >= 0, gamma ** distance.double().abs(), 0.0)
        assert torch.allclose(h, want, atol=1e-14, rtol=1e-12)


def test_directions_are_mirror_images():
    given = inputs()
    one = network(direction="in")
    other = network(direction="out")
    other.load_state_dict(one.state_dict())
    mirrored = {**given, "edge_index": given["edge_index"].flip(0)}
    assert torch.allclose(one(**given), other(**mirrored), atol=1e-14, rtol=1e-12)
    assert not torch.allclose(one(**given), other(**given), atol=1e-6, rtol=1e-3)


def test_cycle_and_complete_graph_have_constant_solutions():
    n, gamma = 6, 0.8
    cycle = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])
    full = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    for index in (cycle, full):
        edges = Edges.build(index, n)
        a = edges.softmax(torch.zeros(len(edges.row), 1, dtype=F64))
        b = torch.full((n, 1), 3.0, dtype=F64)
        h = equilibrium(edges, gamma * a, b, factor=gamma, on_failure="raise").value
        assert torch.allclose(h, b / (1 - gamma), rtol=1e-12, atol=1e-10)


def test_path_with_dirichlet_ends_becomes_linear_as_gamma_goes_to_one():
    n = 11
    right = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    edges = Edges.build(torch.cat([right, right.flip(0)], 1), n)
    inner = (edges.row > 0) & (edges.row < n - 1)
    want, errors = torch.linspace(0, 1, n, dtype=F64), []
    for gap in (1e-2, 1e-4, 1e-6):
        m = (1 - gap) * 0.5 * inner.double()[:, None]
        b = torch.zeros(n, 1, dtype=F64)
        b[-1] = 1.0
        h = equilibrium(edges, m, b, factor=1 - gap, method="dense", on_failure="raise").value
        errors.append(float((h[:, 0] - want).abs().max()))
    assert errors[2] < 2e-5 and errors[1] > 50 * errors[2] and errors[0] > 50 * errors[1]


# --- invariances --------------------------------------------------------------------------------
@pytest.mark.parametrize("linear", ["iterate", "bicgstab", "dense"])
@pytest.mark.parametrize("readout", ["node", "mean", "sum", "max"])
def test_permuting_nodes_and_edges_permutes_the_prediction(linear, readout):
    net, given = network(linear=linear, readout=readout, gamma=0.9), inputs()
    n, e = len(given["x"]), given["edge_index"].shape[1]
    g = torch.Generator().manual_seed(3)
    nodes, links = torch.randperm(n, generator=g), torch.randperm(e, generator=g)
    place = torch.empty(n, dtype=torch.long)
    place[nodes] = torch.arange(n)
    moved = {
        "x": given["x"][nodes],
        "edge_index": place[given["edge_index"]][:, links],
        "edge_attr": given["edge_attr"][links],
        "batch": given["batch"][nodes],
    }
    want = net(**given)
    want = want[nodes] if readout == "node" else want
    assert torch.allclose(net(**moved), want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("linear", ["iterate", "bicgstab", "dense"])
def test_a_graph_does_not_feel_the_others_of_its_batch(linear):
    net = network(linear=linear, gamma=0.99, node_center=[0], edge_center=[1])
    alone, pair = inputs((9,), seed=1), inputs((9,), seed=1)
    hard = inputs((12,), seed=4)  # another graph, with features a million times larger
    pair["x"] = torch.cat([alone["x"], 1e6 * hard["x"]])
    pair["edge_index"] = torch.cat([alone["edge_index"], hard["edge_index"] + 9], 1)
    pair["edge_attr"] = torch.cat([alone["edge_attr"], 1e6 * hard["edge_attr"]])
    pair["batch"] = torch.cat([torch.zeros(9), torch.ones(12)]).long()
    y, one = net.solve(**alone)
    together, both = net.solve(**pair)
    assert (together[:9] - y).abs().max() <= 1e-12
    assert torch.equal(both.iterations[0], one.iterations[0])


def test_memory_does_not_depend_on_gamma_and_is_linear_in_edges_times_heads():
    def saved(gamma, heads=4, edges=10):
        edge_index, batch = multigraphs((20,), edges=edges)
        net = network(gamma=gamma, heads=heads, linear="iterate")
        total = []
        kept = torch.autograd.graph.saved_tensors_hooks(
            lambda t: (total.append(t.numel()), t)[1], lambda t: t
        )
        g = torch.Generator().manual_seed(0)
        x = torch.randn(20, 2, generator=g, dtype=F64)
        attr = torch.randn(edge_index.shape[1], 3, generator=g, dtype=F64)
        with kept:
            _, solution = net.solve(x, edge_index, attr, batch)
        return sum(total), int(solution.iterations.max())

    (few, quick), (many, slow) = saved(0.3), saved(0.95)
    assert slow > 5 * quick
    assert few == many
    base = saved(0.5)[0]
    more_edges = saved(0.5, edges=20)[0] - base
    assert saved(0.5, edges=40)[0] - base == 3 * more_edges
    assert saved(0.5, heads=12)[0] - saved(0.5, heads=8)[0] == saved(0.5, heads=8)[0] - base


# --- odd graphs ---------------------------------------------------------------------------------
def test_parallel_edges_add_up_and_loops_count():
    doubled = Edges.build(torch.tensor([[0, 0, 1], [1, 1, 1]]), 2)
    m = torch.tensor([[0.2], [0.3], [0.1]], dtype=F64)
    b = torch.ones(2, 1, dtype=F64)
    h = equilibrium(doubled, m, b, factor=0.6, on_failure="raise", rtol=1e-13).value[:, 0]
    # h_0 = 1, h_1 = 0.5 h_0 + 0.1 h_1 + 1
    assert torch.allclose(h, torch.tensor([1.0, 1.5 / 0.9], dtype=F64), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("method", ["iterate", "bicgstab", "dense"])
def test_isolated_nodes_give_the_bias(method):
    edges = Edges.build(torch.tensor([[0], [1]]), 4)
    b = torch.randn(4, 2, dtype=F64)
    m = torch.full((1, 2), 0.5, dtype=F64)
    h = equilibrium(edges, m, b, factor=0.9, method=method, on_failure="raise").value
    assert torch.allclose(h[[0, 2, 3]], b[[0, 2, 3]], atol=1e-14, rtol=1e-12)


def test_graph_without_edges():
    net = network()
    y = net(torch.randn(3, 2, dtype=F64), torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, 3))
    assert y.shape == (3, 1) and y.isfinite().all()


@pytest.mark.parametrize("readout", ["sum", "mean", "max"])
def test_graphs_without_nodes_in_a_batch_are_solved_and_pool_to_zero(readout):
    net, given = network(readout=readout), inputs((4,))
    given["batch"] = torch.full((4,), 1)
    y, solution = net.solve(**given, graphs=3)
    assert y.shape == (3, 1) and y.isfinite().all()
    assert solution.converged.all()
    assert torch.equal(y[0], y[2])


def test_int32_indices_are_accepted():
    net, given = network(), inputs()
    short = {**given, "edge_index": given["edge_index"].int(), "batch": given["batch"].int()}
    assert torch.equal(net(**given), net(**short))


def test_wrong_indices_are_refused():
    x, attr = torch.zeros(3, 2), torch.zeros(1, 3)
    net = network().float()
    with pytest.raises(InvalidArgument, match="without nodes"):
        net(x[:0], torch.zeros(2, 0, dtype=torch.long), attr[:0])
    with pytest.raises(InvalidType, match="edge_index"):
        net(x, torch.zeros(2, 1), attr)
    with pytest.raises(InvalidArgument, match="nodes 0 and 3"):
        net(x, torch.tensor([[0], [3]]), attr)
    with pytest.raises(InvalidArgument, match="between two graphs"):
        net(x, torch.tensor([[0], [2]]), attr, torch.tensor([0, 0, 1]))
    with pytest.raises(InvalidArgument, match=r"batch of shape"):
        net(x, torch.tensor([[0], [1]]), attr, torch.tensor([0, 0]))
    with pytest.raises(InvalidArgument, match=r"\(2, E\)"):
        net(x, torch.tensor([[0, 1]]), attr)


def test_wrong_settings_are_refused():
    for wrong in (
        {"gamma": 1.0},
        {"gamma": [0.5, 0.5]},
        {"parametrisation": "softmin"},
        {"readout": "median"},
        {"phi": "exp"},
        {"activation": "swish"},
        {"aggregate": "max"},
        {"heads": 0},
        {"learn_gamma": True, "gamma": 0.9999},
        {"edge_log": [3]},
    ):
        with pytest.raises(InvalidArgument):
            network(**wrong)
    with pytest.raises(InvalidArgument, match="linear"):
        network(linear="lu")(**inputs())
    with pytest.raises(InvalidArgument, match="network.direction=both. Expected 'in', 'out'"):
        network(direction="both")(**inputs())


# --- parts --------------------------------------------------------------------------------------
@pytest.mark.parametrize("heads", [1, 3, 7])
def test_edge_operator_equals_its_matrix(heads):
    edge_index, batch = multigraphs((4, 2, 6))
    edges = Edges.build(edge_index, 12, batch)
    m, b = weights_for(edges, heads)
    operator = EdgeOperator(edges, m, Segments(batch, 3, per_column=True))
    a = torch.eye(12) - dense(edges, m)
    assert torch.allclose(
        operator.matvec(b), (a @ b.T[..., None])[..., 0].T, rtol=1e-12, atol=1e-11
    )
    assert torch.allclose(
        operator.T.matvec(b), (a.mT @ b.T[..., None])[..., 0].T, rtol=1e-12, atol=1e-11
    )
    blocks = operator.dense()
    assert blocks.shape == (3, heads, 6, 6)
    assert torch.allclose(blocks[0, :, :4, :4], a[:, :4, :4], rtol=1e-12, atol=1e-12)
    assert torch.allclose(
        blocks[1, :, 2:, 2:], torch.eye(4, dtype=F64).expand(heads, 4, 4), rtol=1e-12, atol=1e-12
    )


def test_the_solver_follows_factor_and_size():
    small, large = (Edges.build(torch.zeros(2, 1, dtype=torch.long), n) for n in (10, 500))
    assert choose(large, 4, 0.5) == "iterate"
    assert choose(small, 4, 0.9) == "dense"
    assert choose(large, 4, 0.9) == "bicgstab"


def test_an_unsolved_system_is_reported():
    net, given = network(gamma=0.9999, linear=Contraction(max_iter=2000)), inputs((40, 1))
    net.map.gate.bias.data.fill_(10.0)
    with pytest.warns(NumericalWarning, match="unsolved"):
        found = net.infer(**given)
    # the first graph has a node without edges, which absorbs; the second only loops
    assert found["converged"].tolist() == [True, False]
    assert found["residual"][1] > 1e-10
    net.on_failure = "raise"
    with pytest.raises(ConvergenceError, match="used all iterations"):
        net(**given)


def test_a_good_start_saves_iterations():
    net, given = network(gamma=0.99, linear="bicgstab"), inputs((60,))
    _, cold = net.solve(**given)
    _, warm = net.solve(**given, start=cold.value)
    assert int(warm.iterations.max()) < int(cold.iterations.max())
    assert torch.allclose(warm.value, cold.value, atol=1e-12, rtol=1e-12)


def test_what_stagnates_in_float32_is_solved_in_float64():
    # undirected trees: the recurrences of float32 run into round-off
    g = torch.Generator().manual_seed(0)
    n = 2000
    parent = (torch.rand(n - 1, generator=g) * torch.arange(1, n)).long()
    child = torch.arange(1, n)
    edges = Edges.build(torch.stack([torch.cat([parent, child]), torch.cat([child, parent])]), n)
    m = 0.999 * edges.softmax(3 * torch.randn(len(edges.row), 8, generator=g))
    b = torch.randn(n, 8, generator=g)
    layout = Segments(edges.graph, 1, per_column=True)
    operator = EdgeOperator(edges, m, layout)
    solver = EdgeSolver(operator, BiCGStab(rtol=1e-7, max_iter=500), factor=0.999)
    for side in (operator, operator.T):
        alone = solver.solver(side, b)
        assert (alone.status != 0).any()  # what the fallback is for
        out = solver(side, b)
        assert (out.status == 0).all()
        assert out.relative.max() < 1e-4


def test_heads_start_with_opposite_gates():
    weight = network(heads=5).map.gate.weight
    assert torch.equal(weight[:2], -weight[2:4]) and weight[0].abs().sum() > 0


def test_float64_solve_of_a_float32_network():
    edge_index, batch = multigraphs((50,), seed=3)
    g = torch.Generator().manual_seed(0)
    x, attr = torch.randn(50, 2, generator=g), torch.randn(edge_index.shape[1], 3, generator=g)
    net = CGS(node_features=2, edge_features=3, heads=4, gamma=0.99, double=True, rtol=1e-12)
    y, solution = net.solve(x, edge_index, attr, batch)
    assert y.dtype == torch.float32 and solution.value.dtype == F64
    edges = Edges.build(edge_index, 50, batch)
    m, b = net.affine_map(x, attr, edges)
    assert (solution.value - dense_solution(edges, m, b)).abs().max() < 1e-9


def test_other_solvers_and_derivative_rules_may_be_given():
    given = inputs()
    base = network(gamma=0.9)
    want = base(**given)
    for more in (
        {"solver": Anderson(rtol=1e-13)},
        {"adjoint": Implicit(linear=BiCGStab(rtol=1e-12))},
    ):
        net = network(gamma=0.9, **more)
        net.load_state_dict(base.state_dict())
        y = net(**given)
        assert torch.allclose(y, want, atol=1e-11, rtol=1e-11)
        got = torch.autograd.grad(y.sum(), net.map.gate.weight)[0]
        ref = torch.autograd.grad(base(**given).sum(), base.map.gate.weight)[0]
        assert torch.allclose(got, ref, rtol=1e-6)


def test_features_are_logged_centered_and_standardised():
    f = Features(2, log=[0], center=[0]).double()
    graph = torch.tensor([0, 0, 1, 1])
    values = torch.tensor([[1.0, 5.0], [4.0, 5.0], [10.0, 5.0], [1000.0, 5.0]], dtype=F64)
    f.fit(values, graph, 2)
    out = f(values, graph, 2)
    assert torch.allclose(out[:, 0].std(), torch.ones((), dtype=F64), rtol=1e-12, atol=1e-12)
    assert torch.allclose(out[:2, 0].sum(), torch.zeros((), dtype=F64), atol=1e-12, rtol=0)
    assert torch.equal(out[:, 1], values[:, 1])  # a constant column stays
    scaled = values * torch.tensor([1e-13, 1.0])  # another unit
    assert torch.allclose(f(scaled, graph, 2), out, rtol=1e-12, atol=1e-11)
    with pytest.raises(InvalidArgument, match="<= 0"):
        f.fit(-values, graph, 2)


def test_message_layer_equals_its_formula():
    torch.manual_seed(0)
    layer = MessageLayer(2, 3, 4, 5, hidden=6, aggregate="mean").double()
    edge_index, batch = multigraphs((6,))
    edges = Edges.build(edge_index, 6)
    x, eps = torch.randn(6, 2, dtype=F64), torch.randn(len(edges.row), 3, dtype=F64)
    got, message = layer(x, eps, edges)
    act = torch.nn.functional.leaky_relu
    c = torch.cat([eps, x[edges.row], x[edges.col]], 1)
    weight = [layer.edge_in.weight, layer.row_in.weight, layer.col_in.weight]
    hidden = act(c @ torch.cat(weight, 1).T + layer.edge_in.bias)
    want_message = act(layer.message(hidden[:, :6]))
    assert torch.allclose(message, want_message, rtol=1e-12, atol=1e-12)
    score = layer.score(hidden[:, 6:])[:, 0]
    for i in range(6):
        mine = edges.row == i
        total = torch.zeros(5, dtype=F64)
        if mine.any():
            total = (score[mine].softmax(0)[:, None] * want_message[mine]).mean(0)
        want = act(layer.node(torch.cat([total, x[i]])))
        assert torch.allclose(got[i], want, rtol=1e-12, atol=1e-12)


def test_predictions_are_in_the_units_of_the_target():
    net, given = network(), inputs()
    before = net(**given).detach()
    target = 1e5 + 2e4 * torch.randn(len(given["x"]), 1, dtype=F64)
    net.standardise(given["x"], given["edge_index"], given["edge_attr"], given["batch"], target)
    after = net(**given).detach()
    assert abs(float(after.mean() - target.mean())) < 2e5
    assert after.std() > 100 * before.std()
    assert net.shift.item() == pytest.approx(target.mean().item())
    assert net.scale.item() == pytest.approx(target.std().item())
