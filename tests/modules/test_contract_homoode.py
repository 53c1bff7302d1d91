"""The contract of every method, on HomoODE and Neural ODEs at a size of seconds."""

from sciml.testing.contract import ModuleContract

SMALL = (
    "network.width=4",
    "network.head=8",
    "network.groups=2",
    "data.batch_size=8",
    "optimizer.lr=1e-2",
    "callbacks.plots=null",
)
# statistics of a batch are those of a rank: a joined batch has others
ALONE = ("network.norm=group",)


def model(name, *words):
    return [f"model={name}", *SMALL, *words]


class TestFlows(ModuleContract):
    waits = {"learned": 13, "neural": 56, "adjoint": 24, "equilibrium": 80}
    slow_cases = ("neural", "equilibrium")
    cases = {
        "learned": model("homoode_digits", *ALONE, "module.start_every=2"),
        "neural": model(
            "neural_ode_digits",
            "network.augment=2",
            "network.dropout=0.1",
            "network.gradient=checkpoint",
            "module.regularise=error",
        ),
        "adjoint": model(
            "homoode_digits", *ALONE, "network.gradient=adjoint", "network.activation=silu"
        ),
        "equilibrium": model(
            "homoode_digits",
            *ALONE,
            "network.kind=residual",
            "network.on_failure=best",
            "network.tolerance=0.03",
        ),
    }
    overfit = (40, 0.6)
    optimizer_cases = ("learned",)
    rank_cases = ("learned", "adjoint")


class TestAdaptive(ModuleContract):
    """Ranks take different numbers of steps; steps are shared within a batch."""

    waits = {"stiffness": 25}
    cases = {
        "stiffness": model(
            "homoode_digits",
            *ALONE,
            "solver=dopri5",
            "module.regularise=stiffness",
            "module.regularise_where=path",
            "module.regularise_weight=1e-3",
        )
    }
    overfit = (40, 0.8)
    test_runs_with_every_optimizer_or_is_refused = None  # done above
    rank_kinds = ("difference",)
