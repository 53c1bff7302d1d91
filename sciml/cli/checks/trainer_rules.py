"""Settings of the trainer that a run cannot use, or that an optimizer cannot."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from sciml.cli.checks.reading import (
    CLOSURES,
    Config,
    get,
    kfac_searches,
    looks_at_terms,
    name_of,
    several_processes,
)
from sciml.cli.targets import resolving
from sciml.errors import install

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


def line_search_accumulation(config: Config) -> str | None:
    """An optimizer that evaluates the loss several times per step cannot accumulate batches."""
    batches = get(config, "trainer.accumulate_grad_batches", 1)
    name = name_of(config.get("optimizer"))
    one_batch = name in CLOSURES or not getattr(
        resolving.class_of(config, "optimizer"), "accumulates", True
    )
    if batches == 1 or not (one_batch or kfac_searches(config)):
        return None
    kfac = "optimizer.step=kl_clip optimizer.adapt_every=0, or " if name == "KFAC" else ""
    return (
        f"trainer.accumulate_grad_batches={batches} does not go with optimizer={name.lower()}, "
        f"which works on one batch per step. Type {kfac}data.points=N for more points instead."
    )


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
    cls = resolving.class_of(config, "optimizer")
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


def line_search_on_ranks(config: Config) -> str | None:
    """Ranks that follow the line search of their own loss drift apart."""
    if name_of(config.get("optimizer")) != "LBFGS" or not several_processes(config):
        return None
    return (
        "optimizer=lbfgs on several devices: every rank would search along the loss of its own "
        "points, and the weights would drift apart. Type trainer=default, or "
        "optimizer=ssbroyden, which searches along the loss of all ranks."
    )


RULES: tuple[Callable[[Config], str | list[str] | None], ...] = (
    installed_loggers,
    inference_mode,
    unused_arguments,
    parts_of_sets,
    endless_run,
    line_search_accumulation,
    scaled_gradients,
    sharded_weights,
    clipped_directions,
    line_search_on_ranks,
)
