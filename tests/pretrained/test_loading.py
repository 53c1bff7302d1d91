"""Operators load where training code cannot be imported, on any device, bit for bit as saved."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.elliptic.wos_gino import WosGINO
from sciml.pretrained import list_pretrained, load_pretrained, save_operator
from sciml.pretrained.files.folder import SHIPPED
from sciml.pretrained.judging.trained_constraint import is_constrained


def inputs_of(operator, count=2, seed=0):
    """Return random inputs of the shapes that the card lists."""
    generator = torch.Generator().manual_seed(seed)
    if is_constrained(operator):  # channels of its problem's own law
        return {"field": operator.network.equation.problem.sample(count, generator).float()}
    nodes = getattr(operator.network, "nodes", 12)
    found = {}
    for name, entry in operator.spec["inputs"].items():
        sizes = {"N": count, "P": 30, **dict.fromkeys([*"HWD", "nx", "ny", "nz"], nodes)}
        shape = [
            sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in entry["shape"]
        ]
        low, high = entry.get("ranges", {}).get("value", (0.0, 1.0))
        found[name] = low + (high - low) * torch.rand(*shape, generator=generator)
        if name == "distance":  # of a cloud: the last points lie on the boundary
            found[name][:, -10:] = 0
    if "distance" in found:
        points = found["points"]
        on = torch.cdist(points, points[:, -10:]).amin(2)
        found["distance"] = -0.5 * on.clamp_min(0) * (found["distance"] != 0)
    if "sdf" in found:  # balls, with data of their closest points
        half, dim = operator.network.half, found["sdf"].ndim - 1
        axis = torch.linspace(-half, half, nodes)
        grid = torch.stack(torch.meshgrid([axis] * dim, indexing="ij"))
        r = grid.norm(dim=0)
        radius = 0.6 + 0.2 * torch.rand(count, *[1] * dim, generator=generator)
        found["sdf"] = r - radius
        if "screening" in found:  # constant in every domain
            found["screening"][:] = found["screening"].mean()
        if dim == 3:  # cubes: corners of the box are closer
            found["sdf"] = grid.abs().amax(0) - radius
        found["boundary"] = (grid[0] / r.clamp_min(1e-3)).expand_as(found["sdf"]).contiguous()
    return found


OPERATORS = {
    "fno": (WosFNO, {"nodes": 12, "width": 3, "modes": 2, "layers": 1, "hidden": 4}),
    "coefficients": (
        WosFNO,
        {"nodes": 12, "width": 3, "modes": 2, "coefficients": ["screening", "diffusion"]},
    ),
    "cubes": (WosFNO, {"dim": 3, "nodes": 8, "width": 3, "modes": 2, "layers": 1}),
    "gino": (WosGINO, {"nodes": 12, "width": 3, "modes": 2, "layers": 1, "hidden": 4}),
}


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_predictions_are_bit_equal_before_and_after_saving(kind, dtype, tmp_path):
    torch.manual_seed(3)
    cls, arguments = OPERATORS[kind]
    # matmul takes other products, with other round-off, where a gradient may follow
    network = cls(**arguments).to(dtype).eval().requires_grad_(False)
    ranges = {name: (-1.0, 1.0) for name in ("source", "boundary")}
    folder = save_operator(tmp_path / "a", network, arguments=arguments, ranges=ranges, name="a")
    loaded = load_pretrained(folder)
    inputs = {k: v.to(dtype) for k, v in inputs_of(loaded).items()}
    with torch.no_grad():
        before = network.infer(**inputs)["value"]
    assert torch.equal(loaded.predict(**inputs)["value"], before)
    # saved once more, from what was loaded: the same file
    again = save_operator(
        tmp_path / "b", loaded.network, arguments=arguments, ranges=ranges, name="a"
    )
    for name in ("weights.safetensors", "model.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


PROGRAM = """
import json, sys
for name in ("lightning", "hydra", "omegaconf", "wandb", "matplotlib", "neuraloperator", "neuralop",
             "torch_geometric", "h5py", "sciml.modules", "sciml.data", "sciml.optim", "sciml.cli"):
    sys.modules[name] = None  # importing it fails
import sciml, torch
for path, file in json.loads(sys.argv[1]).items():
    inputs, wanted = torch.load(file, weights_only=True)
    found = next(iter(sciml.load_pretrained(path).predict(**inputs).values()))
    print(path.rpartition("/")[2], torch.equal(found, wanted))
"""


def test_every_shipped_operator_loads_in_a_process_without_training_code(tmp_path):
    """By name, and from a folder that was copied elsewhere; bit-equal to this process."""
    asked = {}
    for name in list_pretrained():
        operator = load_pretrained(name)
        inputs = inputs_of(operator, count=1)
        wanted = next(iter(operator.predict(**inputs).values()))
        torch.save((inputs, wanted), tmp_path / f"{name}.pt")
        asked[name] = str(tmp_path / f"{name}.pt")
    last = list_pretrained()[-1]
    shutil.copytree(SHIPPED / last, tmp_path / "copied")
    asked[str(tmp_path / "copied")] = asked[last]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(asked)],
        capture_output=True,
        text=True,
        env={"PATH": "", "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert done.returncode == 0, done.stderr
    names = [*list_pretrained(), "copied"]
    assert done.stdout.split() == [word for name in names for word in (name, "True")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list_pretrained())
def test_operators_load_onto_an_accelerator(name):
    on_cpu, there = load_pretrained(name), load_pretrained(name, device="cuda")
    inputs = inputs_of(on_cpu)
    output = next(iter(on_cpu.spec["outputs"]))
    wanted = on_cpu.predict(**inputs)[output]
    # inputs from either device; outputs come back to where the inputs are
    found = there.predict(**inputs)[output]
    assert found.device.type == "cpu"
    assert torch.allclose(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    moved = {key: value.to("cuda") for key, value in inputs.items()}
    found = there.predict(**moved)[output]
    assert found.device.type == "cuda"
    assert torch.allclose(found.cpu(), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
