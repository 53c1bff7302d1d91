"""`auto` finds the cheap solver: costs from a table in place of a clock."""

from sciml.simulate import PressureSolvers


def test_auto_finds_the_cheap_solver():
    solvers = PressureSolvers("auto", 2)
    price = {"cg": 5.0, "mic": 3.0, "multigrid": 1.0, "amg": 2.5, "learned": 2.0}
    chosen = []
    for _ in range(400):
        chosen.append(solvers.choose())
        solvers.paid(price[chosen[-1]])
    late = chosen[200:]
    assert late.count("multigrid") > 0.6 * len(late)
    assert set(chosen) == set(solvers.arms)  # all have been tried
    assert solvers.shares()["chance/multigrid"] > 0.6
