"""A value set for one choice reaches no other."""

import pytest
import yaml

from sciml.cli import paths
from sciml.cli.checks import rules
from sciml.cli.targets import preflight
from sciml.cli.typed import overrides, schema

FOLDER = paths.config_dir().resolve()
MODELS, OPTIMIZERS = paths.options("model"), paths.options("optimizer")
# With these a group's values come from one file alone.
REPLACED = [
    ("fno_deq_semilinear", "solver", "broyden"),
    ("fno_deq_semilinear", "solver", "fixed_point"),
    ("fno_deq_semilinear", "adjoint", "phantom"),
    ("deq_digits", "adjoint", "ift_shine"),
    ("pinn_biharmonic", "estimator", "sdgd"),
    ("pinn_schrodinger", "estimator", "hutchinson"),
    ("wos_poisson2d", "schedule", "linear"),
    ("cgs_walks", "network", "message_passing"),
    ("pinn_hjb", "network", "modified_mlp"),
    ("pinn_heat4d", "problem", "poisson5d"),
    ("cgs_walks", "data", "pagerank"),
]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    schema.register()
    monkeypatch.setenv(paths.STAMP, "now")


def file(group, name):
    path = FOLDER / group / f"{name}.yaml"
    return yaml.safe_load(path.read_text().replace(": 1e", ": 1.0e")) if path.exists() else {}


def plain(node):
    """Return a node with its numbers as numbers: YAML reads 1e-3 as a word."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    try:
        return node if isinstance(node, bool) else float(node)
    except (TypeError, ValueError):
        return node


def compose(*words):
    line = overrides.read(list(words), FOLDER)
    assert line.findings == []
    return line.config


def check(model, optimizer, scale="default"):
    """Compare what an optimizer gets with its own file and recipes."""
    config = compose(f"model={model}", f"optimizer={optimizer}", f"scale={scale}")
    recipes = [file("recipe", f"{model}_{optimizer}")]
    recipes += [file("size_recipe", f"{model}_{scale}_{optimizer}")]
    wanted = dict(file("optimizer", optimizer))
    for recipe in recipes:
        wanted |= recipe.get("optimizer", {})
    assert plain(config["optimizer"]) == plain(wanted), (model, optimizer)
    of = {key: value for recipe in recipes for key, value in recipe.get("trainer", {}).items()}
    assert config["trainer"]["gradient_clip_val"] == of.get("gradient_clip_val"), (model, optimizer)
    of = {key: value for recipe in recipes for key, value in recipe.get("schedule", {}).items()}
    assert config["schedule"]["warmup"] == of.get("warmup", 0), (model, optimizer)


@pytest.mark.parametrize(
    ("model", "optimizer", "scale", "rate"),
    [
        ("wos_poisson2d", "kfac", "default", 1.0),
        ("wos_poisson2d", "adam", "default", 6e-3),
        ("deq_digits", "muon", "default", 2e-2),
        ("wos_poisson2d", "kfac", "paper", 1.0),
        ("wos_poisson2d", "adam", "paper", 1e-3),
        ("fno_deq_darcy", "sgd", "default", 1e-3),
    ],
)
def test_rates(model, optimizer, scale, rate):
    check(model, optimizer, scale)
    words = [f"model={model}", f"optimizer={optimizer}", f"scale={scale}"]
    assert compose(*words)["optimizer"]["lr"] == rate


def test_files_of_models_and_sizes_set_nothing_that_belongs_to_an_optimizer():
    for group in ("model", "size"):
        for name in paths.options(group):
            node = file(group, name)
            assert "optimizer" not in node, name
            assert "gradient_clip_val" not in node.get("trainer", {}), name
            assert "warmup" not in node.get("schedule", {}), name
    for name in paths.options("recipe") + paths.options("size_recipe"):
        assert any(name.endswith(f"_{optimizer}") for optimizer in OPTIMIZERS), name


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_model_with_every_optimizer(model):
    for optimizer in OPTIMIZERS:
        check(model, optimizer)


@pytest.mark.parametrize(("model", "group", "option"), REPLACED)
def test_a_replaced_choice_has_its_own_values(model, group, option):
    config = compose(f"model={model}", f"{group}={option}")
    assert plain(config[group]) == plain(file(group, option))


def test_what_is_typed_for_a_replaced_choice_stays():
    words = ["model=fno_deq_semilinear", "solver=broyden", "solver.max_iter=7", "debug=overfit"]
    config = compose(*words, "data=darcy2d")
    assert config["solver"]["max_iter"] == 7 and config["data"]["fixed_for"] == 1000000
    config = compose("model=wos_poisson2d", "callbacks=gradient_norm")
    assert config["callbacks"]["checkpoint"]["monitor"] == "val/loss"
    assert "ema" not in config["callbacks"]
    assert preflight.check(config) + rules.check(config) == []


def test_no_option():
    assert compose("model=wos_poisson2d", "schedule=null")["schedule"] is None
    assert compose("model=pinn_hjb", "solver=null")["solver"] is None


def test_parts_that_only_the_model_chose_are_left_out_where_nothing_uses_them():
    config = compose("model=fno_deq_semilinear", "network=fno")
    assert config["solver"] is None and config["adjoint"] is None
    assert preflight.check(config) + rules.check(config) == []
