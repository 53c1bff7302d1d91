"""The contract of every method, on systems of equations at a size of seconds."""

from sciml.testing.contract import ModuleContract

SMALL = ("network.width=8", "network.depth=3", "data.points=12", "data.condition_points=6")
SMALL += ("data.val_points=8",)


def model(name, *words):
    return [f"model={name}", *SMALL, *words]


class TestSystems(ModuleContract):
    cases = {
        "kovasznay": model("pinn_kovasznay", "optimizer.lr=5e-3"),
        "adaptive": model("pinn_burgers1d", "optimizer.lr=5e-3", "data.candidates=3"),
        "holes": model("pinn_poisson2d_holes", "optimizer.lr=5e-3"),
        "coefficient": model("pinn_poisson_coefficient", "optimizer.lr=5e-3"),
        "fourier": model("pinn_heat2d_multiscale", "optimizer.lr=5e-3", "network.frequencies=4"),
        "balanced": model("pinn_kovasznay", "module.balance=ntk", "module.balance_every=4"),
        "kept": model("pinn_wave1d", "optimizer.lr=5e-3", "data.fixed_for=3"),
    }
    overfit = (200, 0.5)
    slow_cases = ("holes", "coefficient", "fourier", "kept", "balanced")
    optimizer_cases = ("kovasznay",)
    rank_cases = ("kovasznay", "coefficient")


class TestOptions(ModuleContract):
    """The same contract for options of training, several at a time."""

    cases = {
        "together": model(
            "pinn_burgers1d",
            "problem.constraint=soft",
            "optimizer.lr=5e-3",
            "network=fbpinn",
            "network.parts=2",
            "module.causal=[0.1,1]",
            "module.attention=true",
            "module.windows=2",
            "data.fixed_for=100000",
        ),
        "staged": model("pinn_wave1d", "optimizer.lr=5e-3", "network=staged", "data.fixed_for=2"),
        "sampled": model("pinn_kovasznay", "optimizer.lr=5e-3", "module.sampled=1"),
    }
    overfit = (120, 0.6)
    waits = {"staged": 1}  # the second of two steps begins a stage, which is measured
    slow_cases = ("sampled",)
    optimizer_cases = ()
    rank_cases = ("together", "staged")
    rank_kinds = ("joined",)  # weights of rows follow from the rows of all ranks
