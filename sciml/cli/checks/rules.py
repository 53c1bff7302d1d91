"""Combinations of choices that do not fit, each a function, all in the table at the end.

A rule takes the resolved configuration and returns what is wrong, a sentence or two with the full
key, or None. A rule about classes that may be absent asks for them by `_target_`. Add a rule here
rather than a check that fails an hour into a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from sciml.cli.checks import fitting, values
from sciml.cli.targets import kinds, preflight
from sciml.errors import install

Config = Mapping[str, Any]

# Arguments of lightning.Trainer that would do nothing here, or break what a run relies on: the
# values that mean "not used", why any other does nothing, and what to type.
NO_EPOCH = "no epoch ever ends, as every step draws its own points"
UNUSED: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "max_epochs": ((None, -1), NO_EPOCH, "trainer.max_steps=N"),
    "min_epochs": ((None,), NO_EPOCH, "trainer.min_steps=N"),
    "check_val_every_n_epoch": ((None,), NO_EPOCH, "trainer.val_check_interval=N, in steps"),
    "reload_dataloaders_every_n_epochs": (
        (0,),
        NO_EPOCH,
        "data.fixed_for=N",
    ),
    "limit_train_batches": ((None, 1.0), NO_EPOCH, "trainer.max_steps=N"),
    "overfit_batches": ((0, 0.0), NO_EPOCH, "debug=overfit, or data.fixed_for=N"),
    "limit_predict_batches": ((None,), "a run predicts nothing", "sciml predict afterwards"),
    "fast_dev_run": ((False, 0), "it switches off record and metrics", "debug=fast"),
    "barebones": ((False,), "it switches off record, metrics and checkpoints", "debug=fast"),
    "plugins": ((None, []), "they are objects", "trainer.precision=... or trainer.strategy=..."),
    "model_registry": ((None,), "nothing is registered", "ckpt_path=FILE"),
    "callbacks": (
        (),
        "the group of that name gives them",
        "callbacks=NAME, or callbacks.NAME=null",
    ),
    "logger": ((), "the group of that name gives them", "logger=NAME, or logger=null"),
    "default_root_dir": ((), "the run folder is taken", "hydra.run.dir=FOLDER"),
}

# Loggers of Lightning and what they import.
LOGGER_PACKAGES = {
    "TensorBoardLogger": ("tensorboard", "tensorboardX"),
    "MLFlowLogger": ("mlflow",),
    "WandbLogger": ("wandb",),
}


# Optimizers of other libraries that evaluate loss and gradient several times per step.
CLOSURES = ("LBFGS",)


def name_of(node: Any) -> str:
    """Return the class name a node's `_target_` ends in, or an empty string."""
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, Mapping) else ""


def get(config: Config, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key, or the target's own default, or `default`."""
    group, _, last = key.partition(".")
    node = config.get(group)
    if not isinstance(node, Mapping):
        return default
    if last in node:
        return node[last]
    found = preflight.class_of(config, group)
    parameter = preflight.arguments(found)[0].get(last) if found is not None else None
    return (
        default if parameter is None or parameter.default is parameter.empty else parameter.default
    )


def problem_order(config: Config) -> int:
    """Return the order of the problem's operator, 2 where it cannot be told."""
    return int(getattr(preflight.class_of(config, "problem"), "order", 2))


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


def installed_loggers(config: Config) -> list[str]:
    """Loggers whose package is not installed."""
    found = []
    for key, node in (config.get("logger") or {}).items():
        packages = LOGGER_PACKAGES.get(name_of(node), ())
        if packages and not any(find_spec(package) for package in packages):
            found.append(
                f"logger={key} needs the package {packages[0]}, which is not installed. "
                f"{install('loggers')}, or logger=csv."
            )
    return found


def inference_mode(config: Config) -> str | None:
    """Residuals differentiate the network, which inference mode forbids."""
    if get(config, "trainer.inference_mode", True) is not True:
        return None
    return (
        "trainer.inference_mode=true would stop every residual in validation and test "
        "(they need gradients). Type trainer.inference_mode=false."
    )


def unused_arguments(config: Config) -> list[str]:
    """Trainer arguments that would be ignored."""
    node = config.get("trainer") or {}
    return [
        f"trainer.{name}={node[name]} does nothing: {why}. Type {instead}."
        for name, (harmless, why, instead) in UNUSED.items()
        if name in node and not any(node[name] is v or node[name] == v for v in harmless)
    ]


def parts_of_sets(config: Config) -> list[str]:
    """Fractions of validation and test sets, which come in chunks that only count."""
    found = []
    for name in ("limit_val_batches", "limit_test_batches"):
        value = get(config, f"trainer.{name}")
        if isinstance(value, float) and value not in (0.0, 1.0):
            found.append(
                f"trainer.{name}={value} is a share of a number of batches that is not known "
                f"beforehand. Type trainer.{name}=N, a number of batches, or 0 for none."
            )
    return found


def endless_run(config: Config) -> str | None:
    """A run without an end."""
    steps, seconds = get(config, "trainer.max_steps", -1), get(config, "trainer.max_time")
    if steps != -1 or seconds is not None or not config.get("trainer"):
        return None
    return (
        "trainer.max_steps=-1 never ends, and there is no trainer.max_time. "
        "Type trainer.max_steps=N, or trainer.max_time=DD:HH:MM:SS."
    )


def looks_at_terms(config: Config) -> bool:
    """Return whether the optimizer sees loss terms, not only gradients."""
    return hasattr(preflight.class_of(config, "optimizer"), "update_curvature")


def line_search_accumulation(config: Config) -> str | None:
    """An optimizer that evaluates the loss several times per step cannot accumulate batches."""
    batches = get(config, "trainer.accumulate_grad_batches", 1)
    name = name_of(config.get("optimizer"))
    one_batch = name in CLOSURES or not getattr(
        preflight.class_of(config, "optimizer"), "accumulates", True
    )
    if batches == 1 or not (one_batch or kfac_searches(config)):
        return None
    kfac = "optimizer.step=kl_clip optimizer.adapt_every=0, or " if name == "KFAC" else ""
    return (
        f"trainer.accumulate_grad_batches={batches} does not go with optimizer={name.lower()}, "
        f"which works on one batch per step. Type {kfac}data.points=N for more points instead."
    )


def kfac_searches(config: Config) -> bool:
    """Return whether K-FAC is asked for a step that evaluates the batch again."""
    if name_of(config.get("optimizer")) != "KFAC":
        return False
    again = get(config, "optimizer.step") in ("line_search", "quadratic")
    return again or get(config, "optimizer.adapt_every") not in (0, None)


def scaled_gradients(config: Config) -> str | None:
    """Half precision skips steps and scales the loss behind the optimizer's back."""
    precision = str(get(config, "trainer.precision", "32-true"))
    closure = name_of(config.get("optimizer")) in CLOSURES
    if precision not in ("16-mixed", "16") or not (closure or looks_at_terms(config)):
        return None
    kind = "line search" if closure else "curvature optimizer"
    return (
        f"trainer.precision={precision} with a {kind}: gradient scaling skips steps "
        "and runs the loss before the optimizer is asked. Type trainer.precision=32-true, or "
        "bf16-mixed."
    )


def sharded_weights(config: Config) -> str | None:
    """Methods on layer matrices need the layers whole."""
    strategy = str(get(config, "trainer.strategy", "auto"))
    sharding = ("fsdp", "deepspeed", "model_parallel")
    if not strategy.startswith(sharding) or not looks_at_terms(config):
        return None
    return (
        f"trainer.strategy={strategy} splits or flattens weights, and this optimizer needs whole "
        "weight matrices. Type trainer.strategy=ddp, or optimizer=adam."
    )


def clipped_directions(config: Config) -> str | None:
    """Clipping the raw gradient does nothing, or breaks what is made from it."""
    value = get(config, "trainer.gradient_clip_val")
    cls = preflight.class_of(config, "optimizer")
    if value and name_of(config.get("optimizer")) in CLOSURES:
        return (
            f"trainer.gradient_clip_val={value} with optimizer=lbfgs: its search would compare a "
            "loss that is not clipped with slopes that are, and curvature pairs would be wrong. "
            "Type trainer.gradient_clip_val=null."
        )
    own = getattr(cls, "own_gradient", False) or getattr(cls, "preconditions", False)
    if not value or not own:
        return None
    return (
        f"trainer.gradient_clip_val={value} clips the gradient before the optimizer turns it into "
        "a step, which has a scale of its own. Type trainer.gradient_clip_val=null, and bound the "
        "step by the optimizer's own options."
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


def line_search_on_ranks(config: Config) -> str | None:
    """Ranks that follow the line search of their own loss drift apart."""
    if name_of(config.get("optimizer")) != "LBFGS" or not several_processes(config):
        return None
    return (
        "optimizer=lbfgs on several devices: every rank would search along the loss of its own "
        "points, and the weights would drift apart. Type trainer=default, or "
        "optimizer=ssbroyden, which searches along the loss of all ranks."
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


def several_processes(config: Config) -> bool:
    """Return whether a run has more than one process."""
    devices = get(config, "trainer.devices", 1)
    count = len(devices) if isinstance(devices, list) else devices
    return count not in (1, "1") or get(config, "trainer.num_nodes", 1) > 1


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
    installed_loggers,
    inference_mode,
    unused_arguments,
    parts_of_sets,
    endless_run,
    line_search_accumulation,
    scaled_gradients,
    sharded_weights,
    clipped_directions,
    compiled_terms,
    split_dimensions,
    line_search_on_ranks,
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
