"""The Gauss-Newton matrix of a residual that samples K of d dimensions, by enumeration.

Five dimensions, two per draw: ten equally likely draws, all evaluated. Claims are those of the
docstring of `sciml.optim.diagonal.probes`; sums over draws are exact, so tolerances are round-off.
"""

import functools
import itertools

import pytest
import torch

from sciml.autodiff.estimators import SDGD, Exact
from sciml.data.collocation import CollocationBatch, CollocationData
from sciml.modules.sdgd_pinn import SDGDPINN
from sciml.networks import MLP
from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.jacobian import jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.diagonal.probes import squared_probe
from sciml.physics.problems.hjb import HJBLQG
from sciml.physics.problems.unit_ball import SineGordon

torch.set_num_threads(1)
D, K, N = 5, 2, 3
PROBLEMS = {"hjb": HJBLQG, "sine-gordon": SineGordon}


class Chosen(SDGD):
    """SDGD whose draws are told to it: one for the gradient, one for the value."""

    def draw(self, operator, like, streams, purpose):
        index = self.second if purpose == "reference" else self.first
        return operator.along(torch.tensor(index), operator.terms / len(index), like)


class Problem:
    """A module and a batch; Jacobians and residuals of every draw, scaled."""

    def __init__(self, make):
        self.problem = make(dim=D)
        batch = CollocationData(problem=self.problem, points=N, seed=3).batch(0)
        conditions = {name: q.to(torch.float64) for name, q in batch.conditions.items()}
        points = batch.points.to(torch.float64)
        self.batch = CollocationBatch(points, conditions, batch.streams, batch.counts)

    def module(self, estimator):
        torch.manual_seed(0)
        timed = self.problem.time_dependent
        module = SDGDPINN(
            problem=self.problem,
            network=MLP(dim=D, time=timed, width=4, depth=3),
            estimator=estimator,
            optimizer=functools.partial(torch.optim.SGD, lr=0.1),
            inputs=("x", "t") if timed else ("x",),
        ).double()
        with torch.no_grad():  # larger than at the start: second derivatives that differ
            for p in module.trial.parameters():
                p.mul_(2.5)
        return module

    def chosen(self, first, second=(), algorithm=3):
        estimator = Chosen(num_dims=len(first), algorithm=algorithm)
        estimator.first, estimator.second = list(first), list(second)
        return self.module(estimator)

    def jacobian(self, module):
        """Return r `(R,)` and J `(R, P)` of the interior residual, the loss being |r|^2 / 2."""
        parameters = [p for p in module.trial.parameters() if p.requires_grad]
        objective = Objective(lambda: module.loss_terms(self.batch)[:1])
        found = jacobian_of(objective, affine_layers(module.trial), parameters)
        return found.residual, found.dense()

    def gradient(self, module):
        parameters = [p for p in module.trial.parameters() if p.requires_grad]
        loss = module.loss_terms(self.batch)[0].loss()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


@functools.cache
def enumerated(name):
    """Return the problem, (r, J) of the exact residual, of all pairs, and of single dimensions."""
    p = Problem(PROBLEMS[name])
    exact = p.jacobian(p.module(Exact()))
    pairs = [p.jacobian(p.chosen(s)) for s in itertools.combinations(range(D), K)]
    singles = [p.jacobian(p.chosen([j])) for j in range(D)]
    return p, exact, pairs, singles


def mean(items):
    return torch.stack(list(items)).mean(0)


def close(found, wanted):
    assert (found - wanted).abs().max() <= 1e-10 * wanted.abs().max()


def covariance(singles):
    """Return `d^2/K (1 - K/d) C` summed over points, from the Jacobians of single dimensions.

    One dimension alone, `J_j = d c_j + rest`, gives the terms up to what all draws share.
    """
    terms = torch.stack([j for _, j in singles]) / D
    terms = terms - terms.mean(0)
    sample = torch.einsum("jnp,jnq->pq", terms, terms) / (D - 1)
    return D**2 / K * (1 - K / D) * sample


@pytest.mark.parametrize("name", PROBLEMS)
def test_residual_and_jacobian_are_unbiased(name):
    _, (r, jac), pairs, _ = enumerated(name)
    close(mean(s for s, _ in pairs), r)
    close(mean(j for _, j in pairs), jac)


@pytest.mark.parametrize("name", PROBLEMS)
def test_gauss_newton_of_a_draw_exceeds_the_exact_one_by_the_covariance(name):
    _, (_, jac), pairs, singles = enumerated(name)
    cov = covariance(singles)
    assert cov.norm() > 1e-3 * (jac.t() @ jac).norm()  # the claim is not empty
    close(mean(j.t() @ j for _, j in pairs), jac.t() @ jac + cov)
    assert torch.linalg.eigvalsh(cov)[0] >= -1e-12 * cov.norm()


@pytest.mark.parametrize("name", PROBLEMS)
def test_biased_loss_has_the_gauss_newton_matrix_of_the_draws(name):
    """Its residuals are the (point, draw) pairs, each with weight one tenth."""
    p, (r, jac), pairs, _ = enumerated(name)
    stacked_r = torch.cat([s for s, _ in pairs]) / len(pairs) ** 0.5
    stacked = torch.cat([j for _, j in pairs]) / len(pairs) ** 0.5
    sets = list(itertools.combinations(range(D), K))
    gradient = mean(p.gradient(p.chosen(s)) for s in sets)
    close(stacked.t() @ stacked_r, gradient)  # its gradient is that of the loss E r_S^2
    close(stacked.t() @ stacked, mean(j.t() @ j for _, j in pairs))
    bias = jac.t() @ r - gradient
    assert bias.norm() > 1e-3 * gradient.norm()  # which is not the gradient of r^2
    close(gradient, jac.t() @ r + mean((j - jac).t() @ (s - r) for s, j in pairs))


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("algorithm", [1, 2])
def test_unbiased_losses_have_the_exact_matrix_as_a_mean_of_cross_products(name, algorithm):
    p, (r, jac), pairs, singles = enumerated(name)
    gramian = jac.t() @ jac
    sets = list(itertools.combinations(range(D), K))
    others = pairs if algorithm == 2 else [(r, jac)]
    # The module's gradient at a pair of draws is J_S^T r_T; its mean is that of the loss r^2.
    for i, k in [(0, 1), (3, 7)]:
        module = p.chosen(sets[i], sets[k], algorithm)
        value = others[k % len(others)][0]
        close(p.gradient(module), pairs[i][1].t() @ value)
        found_r, found_jac = p.jacobian(module)
        close(found_r, value)
        close(found_jac, pairs[i][1])
    close(mean(j.t() @ s for _, j in pairs for s, _ in others), jac.t() @ r)
    crosses = [(a.t() @ b + b.t() @ a) / 2 for _, a in pairs for _, b in others]
    close(mean(crosses), gramian)
    lowest = min(torch.linalg.eigvalsh(c)[0] / c.norm() for c in crosses)
    assert lowest < -1e-3  # indefinite: no matrix to solve with
    # What the optimizers see, J_S^T J_S, is larger by the covariance and never indefinite.
    close(mean(a.t() @ a for _, a in pairs), gramian + covariance(singles))


def test_all_dimensions_leave_no_covariance():
    p, (r, jac), _, _ = enumerated("hjb")
    full_r, full = p.jacobian(p.chosen(range(D)))
    close(full_r, r)
    close(full.t() @ full, jac.t() @ jac)


def test_signs_and_draws_together_give_the_diagonal_of_the_biased_loss():
    """Bartlett's probe on sampled residuals, over all 8 signs of 3 points and all 10 draws."""
    p, _, pairs, _ = enumerated("hjb")
    wanted = mean((j * j).sum(0) for _, j in pairs)
    found = []
    for s in itertools.combinations(range(D), K):
        module = p.chosen(s)
        parameters = [q for q in module.trial.parameters() if q.requires_grad]
        terms = module.loss_terms(p.batch)[:1]
        for signs in itertools.product([-1.0, 1.0], repeat=N):
            draws = [torch.tensor(signs, dtype=torch.float64)[:, None]]
            squares = squared_probe(terms, draws, parameters)
            found.append(torch.cat([d.flatten() for d in squares]))
    close(mean(found), wanted)
