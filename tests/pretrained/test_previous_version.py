"""Run folders written before rooms and classes moved: they predict bit for bit, and runs go on.

`runs_of_0_1` holds four small runs as that code wrote them, and what it predicted: three of when
recipes named files (`sciml.data.walks.WalkData`), `pinn_burgers1d` of just before the rooms moved.
`predictions.safetensors` records torch and the processor's instructions.
"""

import shutil
from pathlib import Path

import pytest
import safetensors
import torch

from sciml.cli.records import read_checkpoint, resume
from sciml.errors import CheckpointError
from sciml.pretrained import load_pretrained
from sciml.testing import runs

FORMER = Path(__file__).parent / "runs_of_0_1"
NAMES = sorted(path.name for path in FORMER.iterdir())


def recorded(name):
    """Return inputs, outputs and where they were computed."""
    with safetensors.safe_open(FORMER / name / "predictions.safetensors", "pt") as file:
        held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        told = file.metadata()
    parts = [{}, {}]
    for key, value in held.items():
        side, _, entry = key.partition(".")
        parts[side == "outputs"][entry] = value
    return *parts, told


@pytest.mark.filterwarnings("ignore:.*extrapolated")
@pytest.mark.parametrize("name", NAMES)
def test_a_run_folder_of_the_previous_version_predicts_bit_equal(name):
    inputs, wanted, told = recorded(name)
    found = load_pretrained(FORMER / name).predict(**inputs)
    assert found.keys() == wanted.keys()
    here = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    alike = all(told[key] == value for key, value in here.items())
    for key, value in wanted.items():
        if alike or not value.is_floating_point():
            assert torch.equal(found[key], value), key
        else:  # other instructions round otherwise: 6e-8 without vectors
            assert torch.allclose(found[key], value, rtol=1e-6, atol=3e-7), key


def typed():
    """Return the command line of the run whose checkpoint is kept."""
    first = (FORMER / "pinn_heat4d" / "config.yaml").read_text().splitlines()[0]
    return first.partition("train.py ")[2].split()


def test_a_checkpoint_of_the_previous_version_goes_on(tmp_path):
    """Its settings are those of the same words today, its weights those of the folder beside it."""
    run = runs.prepare(typed(), tmp_path)
    found = resume.in_folder(FORMER / "pinn_heat4d")
    assert found.step == 3 and found.config["network"]["_target_"] == "sciml.networks.mlp.MLP"
    resume.same_training(found, runs.compose(typed()))
    resume.fits(found, run.module, 1)
    content = torch.load(found.path, weights_only=True)
    run.module.load_state_dict(content["state_dict"])
    state = load_pretrained(FORMER / "pinn_heat4d").state_dict()
    for name, value in run.module.state_dict().items():
        match = [v for k, v in state.items() if k.endswith(name.partition("network.")[2])]
        assert any(v.shape == value.shape and torch.equal(v, value) for v in match), name


@pytest.mark.parametrize("change", ["model", "weights"])
def test_one_that_no_longer_fits_is_refused_with_one_message(change, tmp_path):
    """Before anything is trained: a class that is no longer there, or layers of other names."""
    shutil.copytree(FORMER / "pinn_heat4d", tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    if change == "model":
        target = "sciml.networks.mlp.Perceptron"
        content["sciml"]["config"]["network"]["_target_"] = target
    else:
        old = content["state_dict"]
        content["state_dict"] = {name.replace("output", "head"): old[name] for name in old}
        assert content["state_dict"].keys() != old.keys()
    torch.save(content, file)
    found = read_checkpoint.read(file)
    said = {"model": "belongs to another run: .*Perceptron there", "weights": "missing there"}
    with pytest.raises(CheckpointError, match=said[change]):
        resume.same_training(found, runs.compose(typed()))
        resume.fits(found, runs.prepare(typed(), tmp_path).module, 1)
