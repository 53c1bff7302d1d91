"""Bilevel problems: hyper-gradients by implicit differentiation of the inner minimum.

    python examples/bilevel.py        # five seconds on one core

1. Ridge regression: one weight decay per feature, tuned on held-out data by Newton's method, whose
   second derivatives come from the same solve.
2. Multinomial logistic regression: one decay, by its hyper-gradient.
3. Data reweighting: a third of the training labels are wrong, a few validation labels are right.
   A weight per training sample, learned through the inner minimum, finds the wrong ones.

Reference: Blondel et al. 2021, arXiv 2105.15183 (sections 4.1 and 4.2).
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sciml.solvers import CG, Dense, Implicit, Newton, Rows, linear_solve, minimise

ONE = Rows(0)  # the inner problem is a single one


def ridge(log_decay: Tensor, x: Tensor, y: Tensor, order: int = 1) -> Tensor:
    """Return weights `(n,)` minimising |x w - y|^2 / 2 + sum exp(log_decay) w^2 / 2."""

    def normal(w: Tensor, x: Tensor, decay: Tensor) -> Tensor:
        return x.mT @ (x @ w) + decay * w

    # conjugate gradients: x^T x is never formed
    return linear_solve(
        normal,
        x.mT @ y,
        (x, log_decay.exp()),
        linear=CG(),
        adjoint=Implicit(CG(), order=order),
        layout=ONE,
        positive_definite=True,
        on_failure="raise",
    ).value


def logistic(
    log_decay: Tensor, sample_weight: Tensor, x: Tensor, y: Tensor, classes: int, start: Tensor
) -> Tensor:
    """Return the weights `(n, classes)` of weighted multinomial logistic regression with decay.

    Args:
        log_decay: Scalar.
        sample_weight: `(N,)`, not negative.
        x: Features `(N, n)`.
        y: Class of each sample `(N,)`.
        classes: Number of classes.
        start: First iterate `(n, classes)`; the previous solution saves most of the work.
    """

    def objective(w: Tensor, log_decay: Tensor, sample_weight: Tensor) -> Tensor:
        losses = cross_entropy(x @ w, y, reduction="none")
        decay = 0.5 * log_decay.exp() * w.square().sum()
        return (sample_weight * losses).sum() / len(y) + decay

    return minimise(
        objective,
        start,
        (log_decay, sample_weight),
        solver=Newton(linear=Dense("positive_definite")),
        adjoint=Implicit(Dense("positive_definite")),
        layout=ONE,
        positive_definite=True,
        on_failure="raise",
    ).value


def tune_ridge(steps: int = 8) -> tuple[float, float]:
    """Tune decays on held-out data; return the held-out loss before and after."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(12, generator=generator) * (torch.arange(12) < 4)  # most features are noise
    x = torch.randn(60, 12, generator=generator)
    y = x @ true + torch.randn(60, generator=generator)
    log_decay = torch.zeros(12)

    def held_out(log_decay: Tensor) -> Tensor:
        w = ridge(log_decay, x[:20], y[:20], order=2)
        # a weak prior keeps the decay of useless features finite
        return (x[20:] @ w - y[20:]).square().mean() + 1e-3 * log_decay.square().sum()

    before = float(held_out(log_decay))
    for _ in range(steps):
        gradient = torch.func.grad(held_out)(log_decay)
        hessian = torch.func.hessian(held_out)(log_decay)
        values, vectors = torch.linalg.eigh(hessian)
        step = vectors @ ((vectors.mT @ gradient) / values.abs().clamp_min(1e-3))
        log_decay = log_decay - step.clamp(-2, 2)
    return before, float(held_out(log_decay))


def blobs(count: int, generator: torch.Generator, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Return features `(count, 5)`, the last one constant, and classes `(count,)`."""
    y = torch.randint(classes, (count,), generator=generator)
    centres = 1.5 * torch.eye(4)[:classes]
    x = centres[y] + torch.randn(count, 4, generator=generator)
    return torch.cat([x, torch.ones(count, 1)], 1), y


def reweight(steps: int = 60) -> dict[str, float]:
    """Learn a weight per sample; return test accuracies and how well weights find bad labels."""
    generator = torch.Generator().manual_seed(1)
    x, y = blobs(240, generator)
    x_valid, y_valid = blobs(90, generator)
    x_test, y_test = blobs(2000, generator)
    wrong = torch.rand(240, generator=generator) < 0.35
    given = torch.where(wrong, (y + 1) % 3, y)  # one class is taken for the next

    log_decay = torch.tensor(-5.0)
    score = torch.zeros(240, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.3)
    w = torch.zeros(5, 3)

    def accuracy(w: Tensor) -> float:
        return float(((x_test @ w).argmax(1) == y_test).double().mean())

    plain = accuracy(logistic(log_decay, torch.ones(240), x, given, 3, w))
    for _ in range(steps):
        w = logistic(log_decay, score.sigmoid(), x, given, 3, w.detach())
        optimizer.zero_grad()
        cross_entropy(x_valid @ w, y_valid).backward()
        optimizer.step()
    order = score.detach().argsort()
    found = float(wrong[order[: int(wrong.sum())]].double().mean())
    return {
        "plain": plain,
        "reweighted": accuracy(w.detach()),
        "all labels right": accuracy(logistic(log_decay, torch.ones(240), x, y, 3, w.detach())),
        "wrong labels among the lowest weights": found,
    }


def tune_logistic(steps: int = 15) -> tuple[float, float]:
    """Tune one decay on held-out data; return the held-out loss before and after."""
    generator = torch.Generator().manual_seed(2)
    x, y = blobs(24, generator)
    x_valid, y_valid = blobs(500, generator)
    log_decay = torch.tensor(-9.0, requires_grad=True)
    optimizer = torch.optim.Adam([log_decay], lr=0.7)
    w, losses = torch.zeros(5, 3), []
    for _ in range(steps + 1):
        w = logistic(log_decay, torch.ones(24), x, y, 3, w.detach())
        loss = cross_entropy(x_valid @ w, y_valid)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses[0], losses[-1]


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    for name, tuned in (("ridge", tune_ridge()), ("logistic", tune_logistic())):
        print(f"{name}, held-out loss: {tuned[0]:.3f} before, {tuned[1]:.3f} after")
    for name, value in reweight().items():
        print(f"reweighting, {name}: {value:.3f}")
