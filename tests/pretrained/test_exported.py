"""Operators as torch.export programs: the same values, without this library; or a clear refusal."""

import functools
import subprocess
import sys

import pytest
import torch

from sciml.errors import InvalidArgument, PretrainedError
from sciml.networks.graph.convergent import CGS
from sciml.networks.image.deq_classifier import DEQ, UnrolledNetwork
from sciml.pretrained import PretrainedOperator, load_pretrained

NAMES = ("wos_poisson2d", "wos_screened2d", "wos_varcoef2d", "wos_poisson3d")


def problems(operator, count, seed=0):
    """Return inputs of an elliptic operator: balls of different size, random smooth fields."""
    network, generator = operator.network, torch.Generator().manual_seed(seed)
    axis = torch.linspace(-network.half, network.half, network.nodes)
    x = torch.stack(torch.meshgrid(*[axis] * network.dim, indexing="ij"))
    one = [1] * network.dim
    radius = 0.7 + 0.3 * torch.rand(count, *one, generator=generator)
    found = {"sdf": x.square().sum(0).sqrt() - radius}
    for name in list(operator.spec["inputs"])[1:]:
        a, b = torch.randn(2, count, *one, generator=generator)
        at = x[:, None] * radius / x.square().sum(0).sqrt() if name == "boundary" else x[:, None]
        field = torch.sin(a * at[0] + b * at[1] + a)
        found[name] = 1.5 + field if name in ("screening", "diffusion") else field
    return found


@functools.cache
def exported(name):
    """Return a shipped operator and its program, which takes seconds to trace."""
    operator = load_pretrained(name)
    before = operator.predict(**problems(operator, 1))["value"]
    program = operator.export()
    # exporting leaves the operator as it was
    assert torch.equal(operator.predict(**problems(operator, 1))["value"], before)
    return operator, program


@pytest.mark.filterwarnings("ignore::sciml.errors.RangeWarning")
@pytest.mark.parametrize("name", NAMES)
def test_programs_of_shipped_operators_equal_predict(name):
    operator, program = exported(name)
    run = program.module()
    for count in (1, 4):
        inputs = problems(operator, count, seed=count)
        wanted = operator.predict(**inputs)["value"]
        found = run(**inputs)["value"]
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


PROGRAM = """
import sys
sys.modules["sciml"] = None  # importing it fails
import torch
program = torch.export.load(sys.argv[1]).module()
inputs, wanted = torch.load(sys.argv[2], weights_only=True)
found = program(**inputs)["value"]
print(float((found - wanted).abs().max() / wanted.abs().max()), tuple(found.shape))
"""


@pytest.mark.filterwarnings("ignore::sciml.errors.RangeWarning")
def test_a_saved_program_runs_without_this_library(tmp_path):
    operator, program = exported("wos_poisson3d")
    torch.export.save(program, tmp_path / "operator.pt2")
    inputs = problems(operator, 5, seed=9)
    torch.save((inputs, operator.predict(**inputs)["value"]), tmp_path / "arrays.pt")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, tmp_path / "operator.pt2",
         tmp_path / "arrays.pt"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    error, shape = done.stdout.split(maxsplit=1)
    assert float(error) < 1e-5 and shape.strip() == "(5, 18, 18, 18)"


def operator_of(network):
    return PretrainedOperator(network, {**network.schema(), "metrics": {}})


def test_layers_applied_a_fixed_number_of_times_can_be_exported():
    torch.manual_seed(0)
    operator = operator_of(UnrolledNetwork(width=8, head=8, groups=2, layers=3))
    image = torch.rand(4, 1, 8, 8)
    with pytest.raises(InvalidArgument, match="no example"):
        operator_of(CGS(node_features=2, edge_features=1)).export()
    run = operator.export(image[:1]).module()
    for n in (1, 2, 4):
        wanted = operator.predict(image[:n])["value"]
        assert torch.allclose(run(image=image[:n])["value"], wanted, atol=1e-5, rtol=1e-6)


def test_solvers_that_iterate_are_refused_with_the_reason():
    torch.manual_seed(0)
    deq = operator_of(DEQ(width=8, head=8, groups=2))
    image = torch.rand(2, 1, 8, 8)
    before = deq.predict(image)["value"]
    with pytest.raises(InvalidArgument, match="DEQ cannot be exported.*use predict"):
        deq.export(image)
    assert torch.equal(deq.predict(image)["value"], before)
    graph = {
        "x": torch.rand(5, 2),
        "edge_index": torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]]),
        "edge_attr": torch.rand(5, 1),
        "batch": torch.zeros(5, dtype=torch.long),
    }
    with pytest.raises(InvalidArgument, match="CGS cannot be exported"):
        operator_of(CGS(node_features=2, edge_features=1)).export(**graph)


class Branching(torch.nn.Module):
    """Traces to one of its branches."""

    def schema(self):
        entry = {"shape": ["N", "H"], "unit": "1", "dtype": "float"}
        return {"inputs": {"f": entry}, "outputs": {"value": entry}}

    def infer(self, f):
        return {"value": f if f.shape[0] < 4 else 2 * f}


class Hidden(Branching):
    """Counts its calls: not a function of its inputs."""

    calls = 0

    def infer(self, f):
        type(self).calls += 1
        return {"value": f * type(self).calls}


@pytest.mark.parametrize("network", [Branching, Hidden])
def test_a_program_that_would_differ_is_refused(network):
    with pytest.raises((InvalidArgument, PretrainedError), match="cannot be exported|differs"):
        operator_of(network()).export(torch.ones(2, 3))


def test_a_wrong_example_is_explained():
    operator = load_pretrained("wos_poisson2d")
    inputs = problems(operator, 2)
    with pytest.raises(InvalidArgument, match="no source"):
        operator.export(sdf=inputs["sdf"], boundary=inputs["boundary"])
    with pytest.raises(InvalidArgument, match="boundary has shape"):
        operator.export(**{**inputs, "boundary": inputs["boundary"][:, :-1]})
