"""A tiny trained model on disk."""

import pytest
import torch
from tiny_model import StaticProblem, TinyNetwork, TinyProblem

from sciml.networks.solutions.trial import TrialSolution
from sciml.pretrained import save_pretrained, training_ranges
from sciml.pretrained.classes import class_table


@pytest.fixture
def tiny_classes(monkeypatch):
    monkeypatch.setitem(class_table.CLASSES["problem"], "TinyProblem", "tiny_model:TinyProblem")
    monkeypatch.setitem(class_table.CLASSES["problem"], "StaticProblem", "tiny_model:StaticProblem")
    monkeypatch.setitem(class_table.CLASSES["network"], "TinyNetwork", "tiny_model:TinyNetwork")


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
