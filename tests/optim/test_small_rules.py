"""Small rules of optimizers, written a second time: damping, balance, bounds, square roots."""

import math

import pytest
import torch

from sciml.optim.curvature.terms import LossTerm
from sciml.optim.kronecker.kronecker_sums import balance, damped
from sciml.optim.kronecker.mkor import _bounded, rank_one
from sciml.optim.step_size import DECAY, GROWTH, HIGH, LOW, MOST, adapted, levenberg_marquardt


@pytest.mark.parametrize(
    ("ratio", "damping", "growth"),
    [
        (math.nan, 12.0, 8.0), (-1.0, 12.0, 8.0), (0.0, 12.0, 8.0), (LOW / 2, 12.0, 8.0),
        (LOW, 3.0, GROWTH), (0.05, 3.0, GROWTH), (HIGH, 3.0, GROWTH),
        (1.001 * HIGH, 3.0 / DECAY, GROWTH), (1.0, 3.0 / DECAY, GROWTH),
    ],
)  # fmt: skip
def test_levenberg_marquardt_rises_stays_and_falls(ratio, damping, growth):
    assert levenberg_marquardt(3.0, 4.0, ratio, 1e-9) == (damping, growth)


def test_levenberg_marquardt_has_ends():
    assert levenberg_marquardt(MOST / 2, 16.0, -1.0, 1e-9) == (MOST, 32.0)
    assert levenberg_marquardt(3 * MOST, 16.0, -1.0, 1e-9)[0] == 3 * MOST  # given so: not lowered
    assert levenberg_marquardt(2e-9, 16.0, 1.0, 1e-9) == (1e-9, GROWTH)


@pytest.mark.parametrize(
    ("change", "power"),
    [(-0.2, -1), (-0.25, 0), (-0.5, 0), (-0.75, 0), (-0.8, 1), (1.0, -1), (math.nan, -1)],
)
def test_the_rule_of_kfac_between_a_quarter_and_three_quarters(change, power):
    two, change, model = (torch.tensor(v, dtype=torch.float64) for v in (2.0, change, -1.0))
    damping, ratio = adapted(two, change, model, every=5)
    assert float(damping) == pytest.approx(2.0 * (19 / 20) ** (5 * power))
    assert bool(change.isnan()) or float(ratio) == -float(change)


def spd(groups, n, size):
    root = torch.randn(groups, n, n, dtype=torch.float64)
    return size * (root @ root.mT + torch.eye(n))


@pytest.mark.parametrize("groups", [1, 3])
def test_pi_is_the_root_of_the_ratio_of_mean_eigenvalues(groups):
    """Martens and Grosse 2015, section 6.3: (A + pi sqrt(lambda) I) x (G + sqrt(lambda) / pi I)."""
    a, g = spd(groups, 5, 40.0), spd(groups, 2, 0.03)
    damping = torch.tensor(0.3)
    left, right = damped([a, g], damping, "factored")
    for k in range(groups):
        pi = torch.linalg.eigvalsh(a[k]).mean().sqrt() / torch.linalg.eigvalsh(g[k]).mean().sqrt()
        root = math.sqrt(0.3 / 2)
        eye = torch.eye(5, dtype=torch.float64)
        torch.testing.assert_close(left[k], a[k] + pi * root * eye, rtol=1e-7, atol=1e-12)
        torch.testing.assert_close(right[k], g[k] + root / pi * eye[:2, :2], rtol=1e-7, atol=1e-12)
        mean = [torch.linalg.eigvalsh(m[k]).mean() for m in (a, g)]
        torch.testing.assert_close(balance(*mean), pi, rtol=1e-12, atol=0.0)


def test_an_inverse_with_one_entry_above_the_limit_is_pulled_to_the_identity():
    inverse = torch.tensor([[[2.0, 0.0], [0.0, 0.1]], [[-7.0, 0.5], [0.5, 1.0]]]).double()
    assert torch.equal(_bounded(inverse, 7.0), inverse)
    assert torch.equal(_bounded(inverse, 6.9), (inverse + torch.eye(2)) / 2)  # all groups
    # what it bounds is an inverse: of decay L + (1 - decay) v v^T
    v = torch.randn(2, 2, dtype=torch.float64)
    want = torch.linalg.inv(0.8 * torch.linalg.inv(inverse) + 0.2 * v[:, :, None] * v[:, None])
    torch.testing.assert_close(rank_one(inverse, v, 0.8), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["residual", "categorical"])
def test_products_with_a_square_root_are_those_with_its_columns(kind):
    """Three classes and five samples: a sum along the wrong axis has another value."""
    outputs, change = torch.randn(2, 5, 3, dtype=torch.float64)
    target = torch.tensor([0, 2, 1, 1, 0]) if kind == "categorical" else None
    term = LossTerm("data", outputs, 1.0, 5, kind=kind, target=target)
    roots = term.roots()
    want = torch.einsum("cnm,nm->nc", roots, change)
    torch.testing.assert_close(term.through_root(change), want, rtol=1e-12, atol=1e-13)
    if kind == "categorical":
        p = outputs.softmax(1)
        hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        square = torch.einsum("cnm,cnk->nmk", roots, roots)
        torch.testing.assert_close(square, hessian, rtol=1e-12, atol=1e-13)
