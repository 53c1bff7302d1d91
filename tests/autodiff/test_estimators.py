"""Estimators of second-order operators: exactness, unbiasedness, variance formulas."""

import itertools

import pytest
import torch
from dense_references import error, hessians, parameter_gradient

from sciml.autodiff import push
from sciml.autodiff.estimators import (
    SDGD,
    DifferentialOperator,
    Exact,
    Hutchinson,
    hutchinson_variance,
    probes_needed,
    sdgd_variance,
)
from sciml.autodiff.indices import distinct
from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.networks import MLP

D, N = 6, 3
DRAWS = 4000


def network():
    return MLP(dim=D, width=8, depth=3)


def operators():
    return {
        "laplacian": DifferentialOperator(D),
        "weights (d,)": DifferentialOperator(D, weights=torch.rand(D) + 0.2),
        "weights (N, d)": DifferentialOperator(D, weights=torch.rand(N, D) + 0.2),
        "sigma (d, m)": DifferentialOperator(D, sigma=torch.randn(D, 4)),
        "sigma (N, d, m)": DifferentialOperator(D, sigma=torch.randn(N, D, 7)),
    }


def traces(operator, h):
    """Return tr(A H) `(N,)` from dense matrices."""
    if operator.sigma is not None:
        s = operator.sigma.expand(N, *operator.sigma.shape[-2:])
        return torch.einsum("nim,nij,njm->n", s, h, s)
    a = torch.ones(D) if operator.weights is None else operator.weights
    return (a * h.diagonal(dim1=1, dim2=2)).sum(1)


def contracted(draw, x, h):
    """Return the estimate `(N,)` of a draw from dense Hessians: sum_k w_k v_k H v_k."""
    v = draw.part.dense(x).expand(-1, N, -1)
    w = draw.weights if draw.weights.dim() == 2 else draw.weights[:, None]
    return (w * torch.einsum("kni,nij,knj->kn", v, h, v)).sum(0)


def estimate(net, x, draw):
    return push(net, x, None, [draw.part], draw.weights).top[:, 0]


# --- all terms --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", operators())
def test_all_terms_are_the_trace(name):
    net, x = network(), torch.randn(N, D)
    operator = operators()[name]
    wanted = traces(operator, hessians(net, x))
    m = operator.terms
    backends = [SDGD(num_dims=m), Exact(), SDGD(num_dims=m, selection="swept")]
    if operator.sigma is None:
        backends.append(SDGD(num_dims=m, dims="per_point"))
    for estimator in backends:
        draw = estimator.draw(operator, x, Streams(0, 3), "dims")
        assert error(estimate(net, x, draw), wanted) < 1e-12
    for chunk in (1, 4, 5):
        pieces = Exact(chunk=chunk).draw(operator, x, Streams(0, 0), "dims").chunk(chunk)
        assert all(p.part.num <= chunk for p in pieces) and len(pieces) == -(-m // chunk)
        assert error(sum(estimate(net, x, p) for p in pieces), wanted) < 1e-12
    # probes: an orthogonal set of the right length is as good as the unit vectors
    q = torch.linalg.qr(torch.randn(m, m)).Q * m**0.5
    assert error(estimate(net, x, operator.probes(q, x)), wanted) < 1e-12


@pytest.mark.parametrize("law", ["rademacher", "gaussian"])
@pytest.mark.parametrize("name", operators())
def test_jets_of_a_draw_are_its_contraction_with_the_hessian(name, law):
    net, x = network(), torch.randn(N, D)
    h, operator = hessians(net, x), operators()[name]
    estimators = [Hutchinson(probes=3, law=law), SDGD(num_dims=2)]
    if operator.sigma is None:
        estimators.append(SDGD(num_dims=3, dims="per_point"))
    for estimator in estimators:
        draw = estimator.draw(operator, x, Streams(1, 2), "dims")
        assert error(estimate(net, x, draw), contracted(draw, x, h)) < 1e-12


# --- averages over draws ----------------------------------------------------------------------
LAWS = {
    "shared": SDGD(num_dims=2),
    "per point": SDGD(num_dims=2, dims="per_point"),
    "swept": SDGD(num_dims=2, selection="swept"),
    "importance": SDGD(num_dims=2, selection="importance"),
    "disjoint": SDGD(num_dims=2, ranks="disjoint"),
    "rademacher": Hutchinson(probes=2),
    "gaussian": Hutchinson(probes=2, law="gaussian"),
}


@pytest.mark.parametrize(
    ("law", "name"),
    [
        (law, name)
        for law in LAWS
        for name in ("laplacian", "weights (N, d)", "sigma (d, m)")
        # not offered, or (disjoint) fewer columns than three ranks would draw
        if name != "sigma (d, m)" or law not in ("per point", "importance", "disjoint")
    ],
)
def test_mean_over_draws(law, name):
    """Within four standard errors, point by point."""
    estimator, operator = LAWS[law], operators()[name]
    estimator = _prepared(estimator)
    x, h = torch.randn(N, D), torch.randn(N, D, D)
    h = h + h.transpose(1, 2)
    found = []
    for step in range(DRAWS // 3):
        for rank in range(3):
            draw = estimator.draw(operator, x, Streams(7, step, rank, 3), "dims")
            found.append(contracted(draw, x, h))
    found = torch.stack(found)
    if law in ("swept", "disjoint"):  # what three ranks draw together is not independent
        found = found.reshape(-1, 3, N).mean(1)
    wanted = traces(operator, h)
    standard_error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - wanted).abs() < 4 * standard_error + 1e-12 * wanted.abs()).all()


def _prepared(estimator):
    if getattr(estimator, "selection", None) == "importance":
        estimator.prepare(D)
        estimator.scores = torch.tensor([10.0, 0.0, 1.0, 0.1, 5.0, 0.0])
    return estimator


def test_three_disjoint_ranks_of_two_are_exact_for_six_dimensions():
    net, x = network(), torch.randn(N, D)
    wanted = traces(DifferentialOperator(D), hessians(net, x))
    for estimator in (LAWS["disjoint"], LAWS["swept"]):
        draws = [
            estimator.draw(DifferentialOperator(D), x, Streams(0, 5, r, 3), "dims")
            for r in range(3)
        ]
        assert sorted(torch.cat([d.index for d in draws]).tolist()) == list(range(D))
        mean = sum(estimate(net, x, d) for d in draws) / 3
        assert error(mean, wanted) < 1e-12


def test_disjoint_ranks_need_enough_dimensions():
    with pytest.raises(InvalidArgument, match="num_dims=1, or estimator.ranks=independent"):
        LAWS["disjoint"].draw(
            DifferentialOperator(5), torch.zeros(1, 5), Streams(0, 0, 0, 3), "dims"
        )


def test_random_probes_refuse_negative_weights():
    operator = DifferentialOperator(3, weights=torch.tensor([1.0, -1.0, 1.0]))
    with pytest.raises(InvalidArgument, match="negative weights"):
        LAWS["gaussian"].draw(operator, torch.zeros(1, 3), Streams(0, 0), "dims")


def test_swept_covers_every_dimension_once_per_pass():
    estimator, operator, x = (
        SDGD(num_dims=4, selection="swept"),
        DifferentialOperator(12),
        torch.zeros(1, 12),
    )
    orders = []
    for first in (0, 3, 6):
        seen = [estimator.draw(operator, x, Streams(2, first + i), "dims").index for i in range(3)]
        orders.append(torch.cat(seen).tolist())
        assert sorted(orders[-1]) == list(range(12))
    assert orders[0] != orders[1] != orders[2]  # every pass in its own order
    # two ranks: three steps are two passes
    seen = [
        estimator.draw(operator, x, Streams(2, s, r, 2), "dims").index
        for s in range(3)
        for r in range(2)
    ]
    assert torch.cat(seen).bincount().tolist() == [2] * 12


def test_per_point_draws_differ_between_points():
    x = torch.zeros(50, 40)
    draw = SDGD(num_dims=3, dims="per_point").draw(
        DifferentialOperator(40), x, Streams(0, 0), "dims"
    )
    rows = draw.part.index[:, :, 0]
    assert rows.shape == (50, 3) and len({tuple(r.tolist()) for r in rows}) > 40
    assert draw.weights.shape == (3, 50) and (draw.weights == 40 / 3).all()


# --- variance ---------------------------------------------------------------------------------
def spread(estimator, operator, x, h, draws=DRAWS):
    found = [
        contracted(estimator.draw(operator, x, Streams(3, s), "dims"), x, h) for s in range(draws)
    ]
    return torch.stack(found)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_variance_of_sdgd(k):
    x, h = torch.randn(N, D), torch.randn(N, D, D)
    wanted = sdgd_variance(h.diagonal(dim1=1, dim2=2), k)
    found = torch.stack(  # all subsets, equally likely
        [D / k * h[:, list(s), list(s)].sum(1) for s in itertools.combinations(range(D), k)]
    ).var(0, unbiased=False)
    assert error(found, wanted) < 1e-12
    sampled = spread(SDGD(num_dims=k), DifferentialOperator(D), x, h).var(0)
    assert error(sampled, wanted) < 0.1


@pytest.mark.parametrize("law", ["rademacher", "gaussian"])
def test_variance_of_hutchinson(law):
    h = torch.randn(N, D, D)
    h = h + h.transpose(1, 2)
    sampled = spread(Hutchinson(probes=4, law=law), DifferentialOperator(D), torch.randn(N, D), h)
    assert error(sampled.var(0), hutchinson_variance(h, 4, law)) < 0.1


def test_probes_needed_reach_the_tolerance_and_one_less_does_not():
    second = torch.rand(50) + 0.1
    k = probes_needed(second, 0.05)
    total = second.sum()
    assert sdgd_variance(second, k).sqrt() <= 0.05 * total < sdgd_variance(second, k - 1).sqrt()
    assert probes_needed(torch.ones(50), 0.05) == 1
    assert probes_needed(second, 1e-9) == 50


def test_excess_loss_of_algorithm_three_is_the_variance():
    x, h = torch.randn(N, D), torch.randn(N, D, D)
    h = h + h.transpose(1, 2)
    rest = 0.5 - traces(DifferentialOperator(D), h)  # a residual below the noise
    exact = (traces(DifferentialOperator(D), h) + rest).square().mean()
    cases = {
        SDGD(num_dims=2): sdgd_variance(h.diagonal(dim1=1, dim2=2), 2),
        Hutchinson(probes=3): hutchinson_variance(h, 3, "rademacher"),
        Hutchinson(probes=3, law="gaussian"): hutchinson_variance(h, 3, "gaussian"),
    }
    for estimator, variance in cases.items():
        losses = (
            (spread(estimator, DifferentialOperator(D), x, h, 2 * DRAWS) + rest).square().mean(1)
        )
        assert losses.mean() - exact == pytest.approx(float(variance.mean()), rel=0.1)


# --- algorithms 1 and 2 -----------------------------------------------------------------------
def loss_gradient(net, x, draw, reference=None):
    """Naive transcription: gradient of the loss, the residual's value from `reference`."""
    r = estimate(net, x, draw) + net(x)[:, 0] ** 2
    if reference is not None:
        with torch.no_grad():
            r0 = estimate(net, x, reference) + net(x)[:, 0] ** 2
        return parameter_gradient((2 * r0 * r).mean(), net)
    return parameter_gradient(r.square().mean(), net)


@pytest.mark.parametrize("algorithm", [1, 2, 3])
def test_loss_gradient_over_draws(algorithm):
    """Enumerated over all pairs of subsets, then weighted by how often they are drawn."""
    d = 4
    net, x, operator = MLP(dim=d, width=5, depth=3), torch.randn(N, d), DifferentialOperator(d)
    estimator = SDGD(num_dims=1, algorithm=algorithm)
    single = [operator.along(torch.tensor([j]), float(d), x) for j in range(d)]
    exact = loss_gradient(net, x, operator.exact(x))
    references = {1: [operator.exact(x)], 2: single, 3: [None]}[algorithm]
    table = torch.stack([loss_gradient(net, x, a, b) for a in single for b in references])

    counts = torch.zeros(d, len(references))
    for step in range(DRAWS):
        streams = Streams(11, step)
        j = int(estimator.draw(operator, x, streams, "dims").index)
        reference = estimator.reference(operator, x, streams)
        counts[j, int(reference.index) if algorithm == 2 else 0] += 1
    p = counts.flatten() / DRAWS
    mean = p @ table
    standard_error = ((p @ table**2 - mean**2).clamp_min(0) / DRAWS).sqrt()
    inside = (mean - exact).abs() <= 4 * standard_error + 1e-12
    if algorithm == 3:  # biased: descends on the loss plus the estimator's variance
        assert error(table.mean(0), exact) > 1e-2
    else:
        assert error(table.mean(0), exact) < 1e-12 and inside.all()


def test_unbiased_probes_are_independent_and_late_switch():
    x = torch.randn(N, D)
    estimator = Hutchinson(probes=2, unbiased=True)
    a = estimator.draw(DifferentialOperator(D), x, Streams(0, 0), "dims").part.vectors
    b = estimator.reference(DifferentialOperator(D), x, Streams(0, 0)).part.vectors
    assert not torch.equal(a, b)
    assert Hutchinson().reference(DifferentialOperator(D), x, Streams(0, 0)) is None
    late = SDGD(num_dims=1, reference_dims=3, unbiased_after=10)
    assert late.reference(DifferentialOperator(D), x, Streams(0, 9)) is None
    assert late.reference(DifferentialOperator(D), x, Streams(0, 10)).part.num == 3


# --- importance -------------------------------------------------------------------------------
def test_importance_prefers_large_derivatives_and_reduces_the_variance():
    diagonal = torch.tensor([100.0, 1, 1, 1, 1, 50])
    h, x = torch.diag(diagonal).expand(N, D, D), torch.zeros(N, D)
    estimator = SDGD(num_dims=2, selection="importance")
    estimator.prepare(D)
    for step in range(200):
        draw = estimator.draw(DifferentialOperator(D), x, Streams(0, step), "dims")
        estimator.observe(draw, diagonal[draw.index][:, None].expand(-1, N))
    # a running mean with weight 0.1 starts at one
    assert estimator.scores[0] > 50 and (estimator.scores[1:5] - 1).abs().max() < 1e-5
    found = spread(estimator, DifferentialOperator(D), x, h, 1000).var(0)
    assert (found < 0.5 * sdgd_variance(diagonal, 2)).all()
    other = SDGD(num_dims=2, selection="importance")
    other.prepare(D)
    other.load_state_dict(estimator.state_dict())
    a, b = (e.draw(DifferentialOperator(D), x, Streams(0, 999), "dims") for e in (estimator, other))
    assert torch.equal(a.index, b.index) and torch.equal(a.weights, b.weights)


# --- arguments --------------------------------------------------------------------------------
def test_more_dimensions_than_there_are():
    with pytest.raises(InvalidArgument, match="estimator.num_dims=7 for problem.dim=6"):
        SDGD(num_dims=7).prepare(6)
    with pytest.raises(InvalidArgument, match="estimator.reference_dims=9"):
        SDGD(num_dims=2, reference_dims=9).prepare(6)
    with pytest.raises(InvalidArgument, match="5 distinct terms out of 4"):
        SDGD(num_dims=5).draw(operators()["sigma (d, m)"], torch.zeros(N, D), Streams(0, 0), "dims")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SDGD(num_dims=0), "estimator.num_dims=0"),
        (lambda: SDGD(algorithm=4), "estimator.algorithm=4"),
        (lambda: SDGD(dims="own"), "estimator.dims=own"),
        (lambda: SDGD(selection="best"), "estimator.selection=best"),
        (lambda: SDGD(ranks="same"), "estimator.ranks=same"),
        (lambda: SDGD(dims="per_point", selection="swept"), "selection=swept"),
        (lambda: SDGD(dims="per_point", ranks="disjoint"), "ranks=disjoint"),
        (lambda: SDGD(selection="swept", ranks="disjoint"), "ranks=disjoint"),
        (lambda: Hutchinson(probes=0), "estimator.probes=0"),
        (lambda: Hutchinson(law="sphere"), "estimator.law=sphere"),
        (lambda: DifferentialOperator(3, 3), "order 3"),
        (lambda: DifferentialOperator(3, 4, weights=torch.ones(3)), "fourth-order"),
    ],
)
def test_unusable_arguments_are_named(make, words):
    with pytest.raises(InvalidArgument, match=words):
        make()


@pytest.mark.parametrize(
    "options",
    [{"dims": "per_point"}, {"selection": "swept"}, {"selection": "importance"},
     {"ranks": "disjoint"}],
)  # fmt: skip
def test_pairs_of_dimensions_are_drawn_one_way_alone(options):
    """The bilaplacian has d^2 terms: what is made for d of them is refused, not half done."""
    x, streams = torch.randn(N, D), Streams(0, 0)
    estimator = SDGD(num_dims=2, **options)
    estimator.prepare(D)
    with pytest.raises(InvalidArgument, match="for pairs of dimensions"):
        estimator.draw(DifferentialOperator(D, 4), x, streams, "dims")
    estimator.draw(DifferentialOperator(D, 2), x, streams, "dims")


def test_probes_needed_serve_the_worst_point():
    """Rows of one second derivative among many need all terms, equal ones need one."""
    alike, alone = torch.ones(6), torch.tensor([1.0, 0, 0, 0, 0, 0])
    assert probes_needed(torch.stack([alike, alone]), 1e-9) == 6
    assert probes_needed(torch.stack([alike, alike]), 1e-9) == 1


# --- indices ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("d", "k"), [(5, 2), (5, 5), (40, 12), (40, 3), (10_000, 4), (1, 1)])
def test_distinct_has_no_repetition(d, k):
    rows = distinct(d, k, torch.Generator().manual_seed(0), rows=500)
    assert rows.shape == (500, k) and rows.min() >= 0 and rows.max() < d
    ordered = rows.sort(1).values
    assert (ordered[:, 1:] > ordered[:, :-1]).all()


@pytest.mark.parametrize(("d", "k"), [(4, 2), (6, 5), (5, 1)])
def test_distinct_is_uniform_over_subsets(d, k):
    """Both ways of drawing: chi-squared of all subsets."""
    n = 20_000
    rows = distinct(d, k, torch.Generator().manual_seed(1), rows=n).sort(1).values
    code = (rows * d ** torch.arange(k)).sum(1)
    _, counts = code.unique(return_counts=True)
    cells = len(list(itertools.combinations(range(d), k)))
    assert len(counts) == cells
    chi = ((counts - n / cells) ** 2 / (n / cells)).sum()
    assert chi < (cells - 1) + 4 * (2 * (cells - 1)) ** 0.5


def test_distinct_terms_do_not_exceed_what_there_is():
    for d, k in ((1, 2), (3, 4), (10, 11)):
        with pytest.raises(InvalidArgument, match=f"{k} distinct terms out of {d}"):
            distinct(d, k, torch.Generator())
