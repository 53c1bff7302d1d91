"""Every optimizer of the house on a system of equations: the loss falls, or it is refused."""

from __future__ import annotations

import pytest

from sciml.cli import paths
from sciml.physics.systems import Initial, Observed, System, Time, Unknown
from sciml.pinn import solve

STEPS = 4
# Settings under which three steps show a fall; the rest as the house has it.
WORDS = {
    "adam_lbfgs": ("optimizer.adam_steps=2",),
}
# What is said of an optimizer that cannot be used here.
REFUSED: dict[str, str] = {}


class Spring(System):
    """u' = v, v' = -k u: two outputs, an unknown, terms of three lengths."""

    outputs = ("u", "v")
    domain = Time(0, 1)
    k = Unknown(1.5, positive=True)
    conditions = {
        "start": Initial(u=1, v=0),
        "data": Observed({"t": [0.3, 0.6, 0.9], "u": [0.8, 0.4, -0.1]}, sigma=0.1),
    }

    def residual(self, u, v):
        return u.t - v, v.t + self.k * u


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("optimizer", paths.options("optimizer"))
def test_three_steps_lower_the_loss(optimizer) -> None:
    words = ("data.fixed_for=1000", "trainer.log_every_n_steps=1", "schedule=constant")

    def losses() -> list[float]:
        solution = solve(
            Spring(), *words, *WORDS.get(optimizer, ()), optimizer=optimizer, steps=STEPS,
            points=20, width=6, depth=3,
        )  # fmt: skip
        return [row["train/loss"] for row in solution.history]

    found = losses()
    assert len(found) == STEPS
    assert found[-1] < found[0], found
