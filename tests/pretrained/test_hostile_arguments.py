"""Nonsense for everything public of trained models: a message of ours, or an answer."""

import pytest
import torch

from sciml import pretrained
from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball
from sciml.pretrained import load_pretrained
from sciml.pretrained.inputs import operator_inputs
from sciml.testing.nonsense import only_ours, spoilt

torch.set_num_threads(1)
OPERATOR, LAW = load_pretrained("wos_poisson2d"), load_pretrained("equino_disk")
AXIS = torch.linspace(-1.5, 1.5, 44)
SDF = (AXIS.hypot(AXIS[:, None]) - 1)[None]
FIELDS = {"sdf": SDF, "boundary": torch.zeros_like(SDF), "source": torch.ones_like(SDF)}
PROBLEM = {"domain": Ball(), "problem": Dirichlet(lambda x, i: x[0])}
CENTRE = torch.zeros(1, 1, 2)
CALLS = {
    "load": (load_pretrained, {"path_or_name": "wos_poisson2d", "device": "cpu", "revision": None}),
    "predict": (OPERATOR.predict, FIELDS | {"chunk": 1, "seed": 0}),
    "correct": (OPERATOR.predict, FIELDS | {"correct": 2, "seed": 0}),
    "solve": (OPERATOR.solve, PROBLEM | {"points": CENTRE, "walks": 2, "seed": 0}),
    "verify": (
        OPERATOR.verify,
        PROBLEM | {"points": 8, "walks": 2, "confidence": 0.95, "seed": 0},
    ),
    "export": (OPERATOR.export, FIELDS),
    "law": (LAW.predict, {"strain": torch.zeros(2, 3)}),
    "ranges": (pretrained.training_ranges, {"x": torch.ones(3, 2), "t": torch.ones(3, 1)}),
    "inputs": (operator_inputs, PROBLEM | {"operator": OPERATOR, "move": True, "nodes": 44}),
}
# Honest orders, however long they take: 10^12 walks, a grid of 10^24 nodes.
LONG = {key: ("huge",) for key in ("correct", "walks", "points", "nodes")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_models(name):
    function, good = CALLS[name]
    if name != "export":  # which takes seconds
        function(**good)
    for label, call in spoilt(function, good, LONG):
        only_ours(f"{name}: {label}", call)


@pytest.mark.filterwarnings("ignore")
def test_solutions_and_what_saves_them(make, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = load_pretrained(saved[0])
    good = {"x": torch.randn(3, 5), "t": torch.rand(3, 1), "gradient": True, "chunk": 2}
    for label, call in spoilt(model.predict, good | {"correct": 0, "seed": 0}, LONG):
        only_ours(f"predict: {label}", call)
    solution, keywords = make()
    keywords |= {"folder": "again", "solution": solution, "units": None, "joint": None}
    for label, call in spoilt(pretrained.save_pretrained, keywords):
        only_ours(f"save: {label}", call)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: load_pretrained(3), InvalidType, "path_or_name is 3. Expected a path"),
        (lambda: load_pretrained("wos_poisson2d", "gpu0"), InvalidType, "device is 'gpu0'"),
        (
            lambda: OPERATOR.solve(**PROBLEM, points=CENTRE, walks=2.5),
            InvalidType,
            "walks is 2.5. Expected a whole number",
        ),
        (
            lambda: operator_inputs(OPERATOR, [[0, 0], [1, 0]], PROBLEM["problem"]),
            InvalidType,
            "domain is a list. Expected a domain of sciml.physics.geometry",
        ),
        (
            lambda: pretrained.training_ranges(torch.ones(3)),
            InvalidArgument,
            r"x of shape \(3,\).*points \(N, d\)",
        ),
    ],
)
def test_what_is_said(call, error, said):
    with pytest.raises(error, match=said):
        call()
