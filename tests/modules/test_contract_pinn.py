"""The contract of every method, on all PINN models at a size of seconds."""

from sciml.testing.contract import ModuleContract

SMALL = (
    "problem.dim=4",
    "network.width=16",
    "network.depth=3",
    "data.points=8",
    "data.condition_points=4",
    "data.val_points=8",
    "data.test_points=32",
    "optimizer.lr=5e-3",
)
SDGD = ("estimator.num_dims=3",)


def model(name, *words):
    return [f"model={name}", *SMALL, *words]


class TestModels(ModuleContract):
    cases = {
        "hjb": model("pinn_hjb", *SDGD),
        "hjb_rosenbrock": model("pinn_hjb_rosenbrock", *SDGD),
        "hjb_linear": model("pinn_hjb_linear", *SDGD),
        "sine_gordon": model("pinn_sine_gordon", *SDGD),
        "allen_cahn": model("pinn_allen_cahn", *SDGD),
        "poisson": model("pinn_poisson", *SDGD),
        "semilinear_heat": model("pinn_semilinear_heat", *SDGD),
        "bsb": model("pinn_bsb", *SDGD),
        "schrodinger": model("pinn_schrodinger", *SDGD),
        "biharmonic": model("pinn_biharmonic", "estimator.probes=4"),
        "wave": model("pinn_wave", *SDGD),
        "poisson2d": model("pinn_poisson2d", "problem.dim=2"),
        "heat4d": model("pinn_heat4d"),
    }
    overfit = (150, 0.2)
    slow_cases = ("hjb_rosenbrock", "hjb_linear", "sine_gordon", "allen_cahn", "semilinear_heat")
    slow_cases += ("bsb", "wave")
    optimizer_cases = ("hjb", "schrodinger", "biharmonic")
    rank_cases = ("hjb", "biharmonic", "poisson2d", "heat4d")


class TestOptions(ModuleContract):
    """The same contract for what changes a step: sampling, losses, networks, averaged weights."""

    accelerator_cases = ("hutchinson", "adversarial", "pairs")
    cases = {
        "algorithm_1": model("pinn_hjb", *SDGD, "estimator.algorithm=1"),
        "algorithm_2": model("pinn_poisson", *SDGD, "estimator.algorithm=2"),
        "per_point": model("pinn_hjb", *SDGD, "estimator.dims=per_point"),
        "swept": model("pinn_hjb", *SDGD, "estimator.selection=swept"),
        "importance": model("pinn_poisson", *SDGD, "estimator.selection=importance"),
        "hutchinson": model("pinn_hjb", "estimator=hutchinson", "estimator.unbiased=true"),
        "adversarial": model("pinn_hjb", *SDGD, "module.adversarial_steps=2"),
        "gradient_enhanced": model("pinn_poisson", *SDGD, "module.gradient_enhanced=0.1"),
        "adaptive": model("pinn_poisson", *SDGD, "data.candidates=4"),
        "averaged": model("pinn_hjb", *SDGD, "callbacks=ema"),
        "pairs": ["model=pinn_poisson", *(w for w in SMALL if "network" not in w), *SDGD]
        + ["network=pairs", "network.depth=3", "module.inputs=[x]"],
    }
    overfit = (80, 0.6)
    slow_cases = ("algorithm_1", "algorithm_2", "per_point", "averaged")
    optimizer_cases = ("gradient_enhanced",)
    rank_cases = ("algorithm_1", "swept", "adaptive")
    rank_kinds = ("difference",)  # candidates are chosen on each rank for itself
