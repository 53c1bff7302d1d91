"""Model folders changed at random: loaded, or refused by one message; never anything else.

A change is drawn from a seed, so a case that fails can be run again by its number. What loads must
also predict or refuse by a message, and no change may run code.
"""

import copy
import hashlib
import json
import random
import shutil
import time

import pytest
import safetensors.torch
import torch

import sciml.solvers  # noqa: F401  named tuples of its modules are made by eval
from sciml.errors import SciMLError
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics.problems.unit_ball import Poisson
from sciml.pretrained import load_pretrained, save_operator, save_pretrained, training_ranges
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator

FEW, MANY = 40, 1000
SLOWEST = 30.0  # seconds that a case may take
WIDTHS = {"nodes": 12, "width": 3, "modes": 2, "layers": 1, "hidden": 4}
VALUES = (
    None,
    True,
    0,
    1,
    -1,
    2,
    10**9,
    10**30,
    10**400,
    1.5,
    1e-320,
    1e300,
    -1e308,
    "",
    "x",
    "os.system",
    "../x",
    "a" * 300,
    "\0",
    [],
    [1],
    [[1, 2], [3]],
    ["x", "x"],
    {},
    {"class": "Anderson", "arguments": {}},
    {"_target_": "os.system"},
    {"a": {"b": [None]}},
)
TEXTS = ("NaN", "-Infinity", "1e999", "9" * 5000, '"\\ud800"', "[" * 2000 + "]" * 2000)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Folders of a small operator and of a small solution."""
    folder = tmp_path_factory.mktemp("originals")
    torch.manual_seed(0)
    save_operator(
        folder / "operator",
        WosFNO(**WIDTHS),
        arguments=WIDTHS,
        ranges={"sdf": (-1.0, 2.0)},
        name="operator",
        metrics={"test/rel_l2": 0.1},
        data={
            "recipe": {
                "family": {"_target_": "sciml.physics.elliptic.elliptic_families.StarPoisson"}
            }
        },
    )
    problem, sizes = Poisson(dim=3), {"dim": 3, "time": False, "features": 1, "width": 4}
    network = MLP(**sizes)
    save_pretrained(
        folder / "solution",
        TrialSolution(problem, network, ["x", "radius"]),
        problem={"class": "Poisson", "arguments": {"dim": 3}},
        network={"class": "MLP", "arguments": sizes},
        ranges=training_ranges(torch.rand(8, 3)),
        name="solution",
    )
    return folder


def places(tree, path=()):
    """Yield the way to every value of a description."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def change_description(spec, draw):
    """Replace, remove or add one value, or write down something that is no JSON."""
    spec = copy.deepcopy(spec)
    way = draw.choice(list(places(spec)))
    parent = spec
    for key in way[:-1]:
        parent = parent[key]
    kind = draw.choice(("replace",) * 6 + ("remove", "add", "text"))
    if kind == "replace":
        parent[way[-1]] = draw.choice(VALUES)
    elif kind == "remove":
        del parent[way[-1]]
    elif kind == "add" and isinstance(parent, dict):
        parent[draw.choice(("extra", "class", "arguments", "_target_", "self"))] = draw.choice(
            VALUES
        )
    elif kind == "text":
        parent[way[-1]] = "MARK"
        return json.dumps(spec).replace('"MARK"', draw.choice(TEXTS), 1)
    return json.dumps(spec)


def change_tensors(state, draw):
    """Exchange one tensor, or all precisions."""
    name = draw.choice(sorted(state))
    value = state[name]
    kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8)
    kind = draw.randrange(7)
    if kind == 0:
        state[name] = value.to(draw.choice(kinds))
    elif kind == 1:
        chosen = draw.choice(kinds)
        state.update({k: v.to(chosen) for k, v in state.items() if v.is_floating_point()})
    elif kind == 2:
        state[name] = value[..., :0].contiguous()
    elif kind == 3:
        state[name] = value[None]
    elif kind == 4 and value.is_floating_point():
        state[name] = torch.full_like(value, draw.choice((float("nan"), float("inf"), 1e38)))
    elif kind == 5:
        del state[name]
    else:
        state[draw.choice(("extra", name + ".x", ""))] = torch.zeros(1)


def mutate(folder, number):
    """Change a folder as a seed says."""
    draw = random.Random(number)
    file, description = folder / "weights.safetensors", folder / "model.json"
    what = draw.choice(("description",) * 6 + ("tensors",) * 2 + ("bytes",))
    if what == "description":
        text = change_description(json.loads(description.read_text()), draw)
        description.write_text(text, encoding="utf-8", errors="surrogatepass")
        return
    if what == "tensors":
        state = safetensors.torch.load_file(file)
        change_tensors(state, draw)
        safetensors.torch.save_file(state, file)
    else:
        content = bytearray(file.read_bytes())
        place = draw.randrange(min(len(content), 400))
        content[place] ^= 1 << draw.randrange(8)
        file.write_bytes(bytes(content))
    spec = json.loads(description.read_text())
    spec["weights"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    description.write_text(json.dumps(spec))


def use(folder):
    """Load a folder and predict with it."""
    model = load_pretrained(folder)
    if isinstance(model, PretrainedOperator):
        found = model.predict(*torch.rand(3, 1, 12, 12))
    else:
        found = model.predict(torch.rand(2, 3))
    assert all(value.dtype.is_floating_point for value in found.values())


def tried(originals, folder, numbers):
    """Return what went wrong, by the number of the case."""
    wrong = {}
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(originals / ("operator", "solution")[number % 2], folder)
        mutate(folder, number)
        start = time.perf_counter()
        try:
            use(folder)
        except SciMLError as error:
            if len(str(error)) > 1500:
                wrong[number] = "a message of pages"
        except Exception as error:
            wrong[number] = repr(error)[:200]
        if time.perf_counter() - start > SLOWEST:
            wrong[number] = "too slow"
    return wrong


@pytest.fixture
def no_code(monkeypatch):
    """Fail if anything that runs commands is called."""

    def called(*arguments, **more):
        raise AssertionError("code ran")

    for name in ("os.system", "os.popen", "subprocess.Popen", "builtins.eval"):
        monkeypatch.setattr(name, called)


@pytest.mark.filterwarnings("ignore")
def test_a_few(originals, tmp_path, no_code):
    assert tried(originals, tmp_path / "case", range(FEW)) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many(originals, tmp_path, no_code):
    assert tried(originals, tmp_path / "case", range(FEW, MANY)) == {}
