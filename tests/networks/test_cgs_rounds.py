"""Solvers in rounds: policy iteration by hand-set weights, a dense transcription, symmetries."""

import pytest
import torch
from torch import nn

from sciml.errors import InvalidArgument
from sciml.networks.graph.convergent import CGS
from sciml.networks.graph.convergent_rounds import RefinedCGS
from sciml.physics.graphs.value_iteration import Decisions, GraphValueIteration


def decisions(sizes=(12, 9), seed=0, actions=4):
    graph, batch = GraphValueIteration(actions=actions).draw_many(
        torch.Generator().manual_seed(seed), list(sizes)
    )
    inputs = {"x": graph.x, "edge_index": graph.edge_index, "edge_attr": graph.edge_attr}
    return {**inputs, "batch": batch}, graph.target


def small(**changes):
    torch.manual_seed(0)
    settings = {"heads": 2, "width": 5, "hidden": 6, "rounds": 3, "rtol": 1e-12} | changes
    return RefinedCGS(node_features=1, edge_features=1, **settings).double()


def policy_iteration(d, rounds):
    """Howard's algorithm as written in textbooks: evaluate by a dense solve, be greedy, repeat."""
    n, value, found = len(d.batch), torch.zeros(len(d.batch), dtype=torch.float64), []
    for _ in range(rounds):
        returns = d.returns(value)
        a = torch.zeros(n, n, dtype=torch.float64)
        b = torch.zeros(n, dtype=torch.float64)
        for state in range(n):
            actions = torch.nonzero(d.edge_index[1] == state)[:, 0]
            edge = actions[returns[actions].argmax()]
            a[state, d.edge_index[0, edge]] = d.discount
            b[state] = d.reward[edge]
        value = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - a, b)
        found.append(value)
    return found


def test_sharp_logits_make_it_policy_iteration():
    inputs, target = decisions((30, 20), actions=6)
    net = small(heads=1, rounds=6)
    with torch.no_grad():
        for part in (net.encoder[-1].message, net.encoder[-1].node[-1], net.map.edge_value):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        # r + 0.9 (h_source - h_target): the greedy choice; the chosen edge pays r, b has 1 - gamma
        net.map.skip.weight.copy_(torch.tensor([[1.0, 0.9]]))
        net.map.skip.sharpness.fill_(12.0)
        net.map.edge_value.weight.copy_(torch.tensor([[10.0, 0.0]]))
        net.direct.weight.fill_(1.0)
        net.direct.bias.zero_()
        nn.init.zeros_(net.decoder[-1].weight)
        nn.init.zeros_(net.decoder[-1].bias)
        found = net.all_rounds(**inputs)
    d = Decisions(inputs["edge_index"], inputs["edge_attr"][:, 0], inputs["batch"], 0.9)
    for ours, theirs in zip(found, policy_iteration(d, 6), strict=True):
        torch.testing.assert_close(ours[:, 0], theirs, rtol=0, atol=1e-3)
    torch.testing.assert_close(found[-1], target, rtol=0, atol=1e-3)
    assert (found[0] - target).abs().max() > 0.1  # one round is not enough


def transcription(net, x, edge_index, edge_attr, batch):
    """The equations of the docstring with a dense matrix per head; edges in the caller's order."""
    source, target = edge_index
    x = (x - net.node_input.mean) / net.node_input.std
    given = (edge_attr - net.edge_input.mean) / net.edge_input.std
    n, heads = len(x), net.heads
    h, found = torch.zeros(n, heads, dtype=x.dtype), []
    onto = nn.functional.one_hot(target, n).to(x.dtype)  # (E, N)
    from_ = nn.functional.one_hot(source, n).to(x.dtype)

    def softmax(logits):
        share = logits.exp()
        return share / (onto @ (onto.T @ share))

    for _ in range(net.rounds):
        eps = torch.cat([given, from_ @ h - onto @ h], 1)
        nodes, links = x, eps
        for i, layer in enumerate(net.encoder):
            c = layer.edge_in(eps if i == 0 else links)
            c = layer.act(c + onto @ layer.row_in(nodes) + from_ @ layer.col_in(nodes))
            links = layer.end(layer.message(c[:, : layer.hidden]))
            alpha = softmax(layer.score(c[:, layer.hidden :]))
            total = onto.T @ (alpha * links)
            nodes = layer.end(layer.node(torch.cat([total, nodes], 1)))
        a = softmax(links + (eps @ net.map.skip.weight.T) * net.map.skip.sharpness.exp())
        b = 0.1 * (nodes + onto.T @ (a * net.map.edge_value(eps)))
        columns = []
        for m in range(heads):
            matrix = 0.9 * onto.T @ (a[:, m : m + 1] * from_)
            columns.append(torch.linalg.solve(torch.eye(n, dtype=x.dtype) - matrix, b[:, m]))
        h = torch.stack(columns, 1)
        value = net.direct(h) + 0.1 * net.decoder(h)
        found.append(net.shift + net.scale * value)
    return found


@pytest.mark.parametrize("linear", ["dense", "bicgstab"])
def test_values_and_gradients_equal_a_dense_transcription(linear):
    inputs, target = decisions()
    shuffled = torch.randperm(inputs["edge_index"].shape[1], generator=torch.Generator())
    inputs["edge_index"] = inputs["edge_index"][:, shuffled]
    inputs["edge_attr"] = inputs["edge_attr"][shuffled]
    net = small(linear=linear, sharpness=1.0, decoder=[4])
    net.standardise(**inputs, target=target)
    weights = list(net.parameters())
    ours, theirs = net.all_rounds(**inputs), transcription(net, **inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    grads = [
        torch.autograd.grad(sum((v - target).square().sum() for v in values), weights)
        for values in (ours, theirs)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(net(**inputs), theirs[-1], rtol=1e-9, atol=1e-9)


def test_one_round_is_a_convergent_graph_solver():
    inputs, _ = decisions()
    net = small(rounds=1)
    plain = CGS(
        node_features=1,
        edge_features=3,
        heads=2,
        width=5,
        hidden=6,
        layers=2,
        parametrisation="softmax",
        edge_bias=True,
        decoder=[],
        rtol=1e-12,
    ).double()
    state = net.state_dict()
    factors = state.pop("map.skip.sharpness").exp()
    state["map.skip.weight"] = state["map.skip.weight"] * factors[:, None]
    state = {k: v for k, v in state.items() if not k.startswith("edge_input")}
    plain.load_state_dict(state, strict=False)
    padded = torch.cat([inputs["edge_attr"], torch.zeros(len(inputs["edge_attr"]), 2)], 1)
    other = plain(**{**inputs, "edge_attr": padded})
    torch.testing.assert_close(net(**inputs), other, rtol=0, atol=1e-12)


def test_neighbours_in_a_batch_do_not_matter():
    both, _ = decisions((14, 8))
    net = small()
    first = both["edge_index"][1] < 14
    alone = net(
        x=both["x"][:14],
        edge_index=both["edge_index"][:, first],
        edge_attr=both["edge_attr"][first],
    )
    torch.testing.assert_close(net(**both)[:14], alone, rtol=0, atol=1e-11)


def test_order_of_nodes_does_not_matter():
    inputs, _ = decisions((15,))
    net, order = small(), torch.randperm(15, generator=torch.Generator().manual_seed(1))
    place = torch.empty_like(order)
    place[order] = torch.arange(15)
    turned = {**inputs, "x": inputs["x"][order], "edge_index": place[inputs["edge_index"]]}
    torch.testing.assert_close(net(**turned), net(**inputs)[order], rtol=0, atol=1e-11)


def test_more_rounds_may_be_asked_of_trained_weights():
    inputs, _ = decisions()
    net = small(rounds=2)
    two = net.all_rounds(**inputs)
    net.rounds = 5
    five = net.all_rounds(**inputs)
    assert len(five) == 5
    torch.testing.assert_close(five[1], two[1], rtol=0, atol=1e-11)


def test_infer_says_whether_it_converged():
    inputs, _ = decisions()
    net = small(gamma=0.99, linear="iterate", rtol=1e-10, on_failure="best")
    out = net.infer(**inputs)
    assert out["converged"].shape == (2,) and out["converged"].all()
    assert net.schema()["inputs"]["edge_attr"]["shape"] == ["edges", 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"rounds": 0}, "at least 1"), ({"parametrisation": "degree_clip"}, "gated_softmax")],
)
def test_refusals(wrong, message):
    with pytest.raises(InvalidArgument, match=message):
        small(**wrong)
    inputs, _ = decisions()
    with pytest.raises(InvalidArgument, match="from zero"):
        small().solve(**inputs, start=torch.zeros(21, 2))
