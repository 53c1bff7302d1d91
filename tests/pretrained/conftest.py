"""A tiny trained model on disk, and stand-ins for classes that do not ship yet."""

import pytest
import torch

from sciml.networks.trial import TrialSolution
from sciml.pretrained import save_pretrained, table, training_ranges


class TinyProblem:
    """u = (1 - t) n + sum x, with |x|^2 as a feature."""

    time_dependent = True
    feature_names = ("radius",)

    def __init__(self, *, dim: int) -> None:
        if dim < 1:
            raise ValueError(f"dim={dim}")
        self.dim = dim

    def feature(self, name, x, t):
        return (x * x).sum(-1, keepdim=True)

    def lift(self, x, t):
        return 1.0 - t, x.sum(-1, keepdim=True)


class StaticProblem:
    """No time, no lift."""

    time_dependent = False
    feature_names = ()

    def __init__(self, *, dim: int) -> None:
        self.dim = dim

    def lift(self, x, t):
        return None, None


class TinyNetwork(torch.nn.Module):
    def __init__(self, *, dim: int, time: bool, features: int, width: int, kind: str = "float32"):
        super().__init__()
        dtype = getattr(torch, kind)
        self.x = torch.nn.Linear(dim, width, dtype=dtype)
        self.t = torch.nn.Linear(int(time), width, bias=False, dtype=dtype) if time else None
        self.f = torch.nn.Linear(features, width, bias=False, dtype=dtype) if features else None
        self.out = torch.nn.Linear(width, 1, dtype=dtype)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x, t=None, f=None):
        dtype = self.out.weight.dtype
        z = self.x(x.to(dtype))
        if self.t is not None:
            z = z + self.t(t.to(dtype))
        if self.f is not None:
            z = z + self.f(f.to(dtype))
        n = self.out(torch.tanh(z))
        return n.real if n.is_complex() else n


@pytest.fixture
def tiny_classes(monkeypatch):
    monkeypatch.setitem(table.CLASSES["problem"], "TinyProblem", f"{__name__}:TinyProblem")
    monkeypatch.setitem(table.CLASSES["problem"], "StaticProblem", f"{__name__}:StaticProblem")
    monkeypatch.setitem(table.CLASSES["network"], "TinyNetwork", f"{__name__}:TinyNetwork")


@pytest.fixture
def make(tiny_classes):
    """Return a function that builds a solution and the keyword arguments to save it."""

    def build(problem="TinyProblem", dim=5, kind="float32", inputs=("x", "t", "radius")):
        torch.manual_seed(1)
        timed = problem == "TinyProblem"
        inputs = inputs if timed else ("x",)
        arguments = {
            "dim": dim,
            "time": timed,
            "features": len(inputs) - 1 - timed,
            "width": 7,
            "kind": kind,
        }
        pde = {"TinyProblem": TinyProblem, "StaticProblem": StaticProblem}[problem](dim=dim)
        solution = TrialSolution(pde, TinyNetwork(**arguments), inputs)
        x, t = torch.randn(64, dim), torch.rand(64, 1)
        keywords = {
            "problem": {"class": problem, "arguments": {"dim": dim}},
            "network": {"class": "TinyNetwork", "arguments": arguments},
            "ranges": training_ranges(x, t if timed else None),
            "name": "tiny",
            "description": "A model for tests.",
            "metrics": {"test/rel_l2": 0.25, "test/bad": float("nan")},
            "data": {"law": "normal", "seed": 0},
        }
        return solution, keywords

    return build


@pytest.fixture
def saved(make, tmp_path):
    """Return (folder, solution) of a saved tiny model."""
    solution, keywords = make()
    return save_pretrained(tmp_path / "tiny", solution, **keywords), solution
