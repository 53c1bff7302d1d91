"""What configurations compose to."""

import pytest

from sciml.cli import paths
from sciml.cli.checks import rules
from sciml.cli.targets import preflight
from sciml.cli.typed import overrides, schema
from sciml.testing import runs

MODELS = paths.options("model")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    schema.register()
    monkeypatch.setenv(paths.STAMP, "now")


def compose(*words, folder=None):
    line = overrides.read(list(words), (folder or paths.config_dir()).resolve())
    assert line.findings == []
    return line


SIZES = [name.rpartition("_") for name in paths.options("size")]
SCALES = [(model, "default") for model in MODELS] + [(name, size) for name, _, size in SIZES]


@pytest.mark.usefixtures("files_read_once")
@pytest.mark.parametrize(("model", "scale"), SCALES)
def test_every_model_passes_preflight(model, scale):
    line = compose(f"model={model}", f"scale={scale}", *runs.OWN.get(model, ()))
    assert line.config["model"] == model and line.config["scale"] == scale
    assert preflight.check(line.config) + rules.check(line.config) == []
    assert str(line.run_dir) == f"runs/{model}/now"


def test_numbers_to_expect_are_those_of_the_models_own_network():
    assert compose("model=wos_poisson2d", "seed=1").config["reference"]
    other = compose("model=wos_poisson2d", "network=neuralop_fno")
    assert other.config["reference"] is None and "reference=null" in other.overrides
    typed = compose("model=wos_poisson2d", "network=neuralop_fno", "reference=null")
    assert typed.overrides.count("reference=null") == 1


@pytest.mark.usefixtures("files_read_once")
@pytest.mark.parametrize(
    ("group", "option"),
    [
        (group, option)
        for group in ("optimizer", "schedule", "trainer", "callbacks", "debug", "estimator")
        for option in paths.options(group)
    ],
)
def test_every_option_passes_preflight(group, option):
    # folds are chosen by a loss that equations do not have
    model = "cgs_tu" if option == "folds" else "pinn_hjb"
    config = compose(f"model={model}", f"{group}={option}").config
    assert preflight.check(config) + rules.check(config) == []


def test_every_config_says_how_to_use_it_and_explains_its_keys():
    for file in sorted(paths.config_dir().rglob("*.yaml")):
        lines = file.read_text().splitlines()
        head = [line for line in lines if not line.startswith("# @package")]
        commands = ("# python train.py model=", "# hydra/job_logging=")
        assert head[0].startswith(commands), f"{file}: first line is the command that uses it"
        assert file.parent.name not in ("model", "optimizer") or paths.describe(
            file.parent.name, file.stem
        )


def test_what_is_typed_beats_size_recipe_and_model(folder):
    size = compose("model=toy", "scale=paper", folder=folder).config
    assert size["problem"]["dim"] == 7 and size["trainer"]["max_steps"] == 9
    typed = compose("model=toy", "scale=paper", "problem.dim=5", folder=folder).config
    assert typed["problem"]["dim"] == 5 and typed["trainer"]["max_steps"] == 9
    assert compose("model=toy", folder=folder).config["optimizer"]["lr"] == 1e-3
    recipe = compose("model=toy", "optimizer=sgd", folder=folder).config["optimizer"]
    assert recipe["lr"] == 0.125 and recipe["_target_"] == "torch.optim.SGD"
    typed = compose("optimizer.lr=2.0", "optimizer=sgd", "model=toy", folder=folder).config
    assert typed["optimizer"]["lr"] == 2.0
    chosen = compose("problem=hjb_lqg", "model=toy", folder=folder).config["problem"]
    assert chosen["_target_"].endswith("HJBLQG")


def test_a_choice_drops_what_the_model_set_for_the_one_it_replaces(folder):
    assert compose("model=toy", folder=folder).config["schedule"]["final"] == 0.5
    line = compose("model=toy", "schedule=constant", folder=folder)
    assert line.config["schedule"] == {"_target_": "sciml.optim.Constant", "warmup": 0}
    words = ["model=toy", "schedule=constant", "schedule.final=0.1"]
    (finding,) = overrides.read(words, folder.resolve()).findings
    assert finding.startswith("schedule.final is unknown")


def test_an_empty_run_folder_is_refused(folder):
    (finding,) = overrides.read(["model=toy", "hydra.run.dir="], folder.resolve()).findings
    assert finding.startswith("hydra.run.dir is empty")


def test_arguments_no_file_lists_need_no_plus(folder):
    config = compose("model=toy", "trainer.limit_val_batches=2", "problem.noise=1", folder=folder)
    assert config.config["trainer"]["limit_val_batches"] == 2
    assert config.config["problem"]["noise"] == 1


def test_callbacks_can_be_added_and_switched_off(folder):
    words = ["+callbacks.ema._target_=lightning.pytorch.callbacks.EMAWeightAveraging"]
    config = compose("model=toy", *words, "callbacks.record=null", folder=folder).config
    assert preflight.check(config) == [] and config["callbacks"]["record"] is None


@pytest.mark.parametrize(
    "word",
    ["network.options={norm: x}", "network.options.norm=x", "+network.options.norm=x"],
)
def test_any_name_may_be_typed_into_an_empty_table(word):
    """`network.options` are further arguments of a library's class: no file lists them."""
    line = compose("model=tfno", "data.path=x.npz", word)
    assert line.config["network"]["options"] == {"norm": "x"}
    words = ["model=tfno", "data.path=x.npz", "network.option.norm=x"]
    (said,) = overrides.read(words, paths.config_dir().resolve()).findings
    assert "network.option is not a group" in said
