"""The contract of every method, on the PINN models at a size of seconds."""

from sciml.testing.contract import ModuleContract

SMALL = (
    "network.width=16",
    "network.depth=3",
    "data.points=8",
    "data.val_points=8",
    "data.test_points=32",
    "estimator.num_dims=3",
)


class TestPINN(ModuleContract):
    cases = {
        "hjb": ["model=pinn_hjb", "problem.dim=5", *SMALL],
    }
