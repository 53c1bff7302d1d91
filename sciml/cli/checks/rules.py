"""Combinations of choices that do not fit, each a function, all in the table at the end.

A rule takes the resolved configuration and returns what is wrong, a sentence or two with the full
key, or None. A rule about classes that may be absent asks for them by `_target_`. Add a rule here
rather than a check that fails an hour into a run.
"""

from __future__ import annotations

from collections.abc import Callable

from sciml.cli.checks import fitting, trainer_rules, values
from sciml.cli.checks.reading import Config, get, looks_at_terms, name_of, problem_order
from sciml.cli.targets import kinds


def sampled_dimensions(config: Config) -> str | None:
    """More sampled dimensions than there are."""
    if name_of(config.get("estimator")) != "SDGD" or problem_order(config) != 2:
        return None
    num, dim = get(config, "estimator.num_dims"), get(config, "problem.dim")
    if not isinstance(num, int) or not isinstance(dim, int) or dim < 1 or num <= dim:
        return None
    return (
        f"estimator.num_dims={num} samples more dimensions than problem.dim={dim} has. "
        f"Type estimator.num_dims={dim}, or estimator=exact for all of them."
    )


def fourth_order_probes(config: Config) -> str | None:
    """Rademacher probes on a fourth-order operator, where they estimate something else."""
    if name_of(config.get("estimator")) != "Hutchinson" or problem_order(config) != 4:
        return None
    law = get(config, "estimator.law")
    if law != "rademacher":
        return None
    return (
        f"estimator.law={law} is biased for the fourth-order operator of "
        f"{name_of(config.get('problem'))}: E[v_i^4] must be 3, it is 1. "
        "Type estimator.law=gaussian or estimator.law=pair."
    )


def compiled_terms(config: Config) -> str | None:
    """Layer uses inside compiled code cannot be recorded, nor differentiated twice."""
    if get(config, "module.compile", False) is not True or not looks_at_terms(config):
        return None
    return (
        "module.compile=true hides the layers from an optimizer that looks at curvature (and "
        "compiled code cannot be differentiated twice). Type module.compile=false."
    )


def split_dimensions(config: Config) -> str | None:
    """One residual from all ranks has no Jacobian on any of them."""
    if get(config, "module.dimension_parallel", False) is not True or not looks_at_terms(config):
        return None
    return (
        "module.dimension_parallel=true joins the ranks' parts of every residual, and a curvature "
        "optimizer needs the whole residual on one rank. Type module.dimension_parallel=false: "
        "ranks then draw points of their own."
    )


def adjoint_of_another_solver(config: Config) -> str | None:
    """Derivatives of the iteration itself, or from what it left, need the iteration they know."""
    solver, node = name_of(config.get("solver")), config.get("adjoint") or {}
    linear = node.get("linear") or {}
    shares = "SharedInverse" == name_of(linear) or linear.get("preconditioner") is not None
    adjoint = name_of(node)
    wanted = {
        "Reversible": (("ReversibleIteration",), "solver=reversible"),
        "Backprop": (("FixedPointIteration", "ReversibleIteration"), "solver=fixed_point"),
    }.get(adjoint)
    if shares and not (solver == "Broyden" and get(config, "solver.share")):
        wanted = ((), "solver=broyden solver.share=true")
    if not solver or wanted is None or solver in wanted[0]:
        return None
    return (
        f"adjoint={adjoint.lower()} does not go with solver={solver.lower()}, whose steps it knows "
        f"nothing of. Type {wanted[1]}."
    )


def differentiated_once(config: Config) -> str | None:
    """Products with the Hessian need an implicit layer that may be differentiated twice."""
    name, adjoint = name_of(config.get("optimizer")), name_of(config.get("adjoint"))
    products = name in ("AdaHessian", "SophiaH")
    # graph networks have an implicit derivative without being given one
    implicit = name_of(config.get("network")) in ("CGS", "RefinedCGS", "IGNN")
    plain = adjoint == "Backprop" or (adjoint == "" and not implicit)
    twice = plain or (get(config, "adjoint.order", 1) or 1) > 1
    if not products or twice:
        return None
    return (
        f"optimizer={name.lower()} multiplies with the Hessian of the loss, and this adjoint is "
        "differentiated once only. Type adjoint=ift adjoint.order=2, or optimizer=sophia."
    )


# Optimizers that take the rows a layer sees for samples.
ROWS = ("KFAC", "KFACStar", "MKOR", "ENGD", "SPRING", "LevenbergMarquardt")


def rows_of_edges(config: Config) -> str | None:
    """Curvature that is recorded layer by layer needs layers that see one row per sample."""
    name = name_of(config.get("optimizer"))
    graphs = name_of(config.get("module")) == "ConvergentGraphSolver"
    graphs |= name_of(config.get("network")) == "NeuralopCloud"
    if not graphs or name not in ROWS:
        return None
    return (
        f"optimizer={name.lower()} takes the rows that a layer sees for samples, and layers of a "
        "graph network see nodes or edges. Type optimizer=adam, optimizer=soap or optimizer=sophia."
    )


def compiled_slope(config: Config) -> str | None:
    """Compiled code cannot be differentiated twice."""
    weight = get(config, "module.gradient_enhanced", 0.0)
    if get(config, "module.compile", False) is not True or not weight:
        return None
    return (
        f"module.gradient_enhanced={weight} differentiates the residual once more, which "
        "module.compile=true does not support (double backward). Type module.compile=false."
    )


def shared_points(config: Config) -> str | None:
    """Ranks that split the dimensions must look at the same points."""
    split = get(config, "module.dimension_parallel", False) is True
    if not split or get(config, "data.share_points", True) is True:
        return None
    return (
        "module.dimension_parallel=true adds up the ranks' parts of one residual, but "
        "data.share_points=false gives every rank its own points. Type data.share_points=true."
    )


def resume_in_sweep(config: Config, *, multirun: bool) -> str | None:
    """One checkpoint cannot be continued by several runs."""
    if not multirun or config.get("ckpt_path") != "last":
        return None
    return (
        "ckpt_path=last with -m: which run of the sweep continues is not defined. "
        "Continue them one by one with ckpt_path=RUN_FOLDER."
    )


def curvature_without_callback(config: Config) -> str | None:
    """Optimizers that look at loss terms are shown them by a callback."""
    entries = config.get("callbacks") or {}
    here = any(name_of(node) == "CurvatureCallback" for node in entries.values())
    if not looks_at_terms(config) or here:
        return None
    return (
        f"optimizer={name_of(config.get('optimizer')).lower()} is shown loss terms by the callback "
        "curvature, which is switched off. Leave callbacks.curvature=null out."
    )


RULES: tuple[Callable[[Config], str | list[str] | None], ...] = (
    *values.RULES,
    *fitting.RULES,
    curvature_without_callback,
    sampled_dimensions,
    fourth_order_probes,
    *trainer_rules.RULES,
    compiled_terms,
    split_dimensions,
    adjoint_of_another_solver,
    differentiated_once,
    rows_of_edges,
    compiled_slope,
    shared_points,
)


def check(config: Config) -> list[str]:
    """Return what every rule finds."""
    if kinds.entries_without_target(config):
        return []  # preflight says so; rules look into the entries
    found: list[str] = []
    for rule in RULES:
        answer = rule(config)
        found += [answer] if isinstance(answer, str) else list(answer or ())
    return found
