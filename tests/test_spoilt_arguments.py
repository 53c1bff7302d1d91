"""Constructors of public classes and methods of domains: nonsense gets a message of ours."""

import inspect

import numpy as np
import pytest
import torch

from sciml import callbacks, data, networks, optim
from sciml.errors import InvalidArgument, InvalidType
from sciml.physics import Dirichlet, PoissonBox, elliptic, geometry, walks
from sciml.testing.nonsense import NONSENSE, only_ours, spoilt

TOO_LARGE = ("huge",)  # 10^12 layers are a matter of memory
DIM, GRAPH = {"dim": 2}, {"node_features": 2, "edge_features": 1}
POINTS = torch.tensor([[[0.1, 0.2], [0.3, -0.1]]], dtype=torch.float64)
GENERATOR = torch.Generator().manual_seed(0)
SQUARE = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]


def zero(x, i):
    return torch.zeros_like(x[0])


# What each constructor needs; everything else it may take is spoilt as well.
CLASSES = {
    **{(networks, n): DIM for n in ("MLP", "ModifiedMLP", "FourierMLP", "ResidualMLP")},
    **{(networks, n): DIM for n in ("PairNetwork", "PerOutput", "TensorNetwork")},
    **{(networks, n): GRAPH for n in ("CGS", "RefinedCGS", "IGNN", "MessagePassing")},
    **{
        (networks, n): {}
        for n in ("DEQ", "HomoODE", "NeuralODE", "FNO", "FNODEQ", "EquiNO", "WosFNO", "WosGINO")
    },
    **{(networks, n): {} for n in ("Corrector", "DCDM", "LearnedMultigrid")},
    (networks, "BasisFNO"): {"sizes": (8, 8)},
    (networks, "VPIONet"): {"nodes": 10},
    (data, "CollocationData"): {"problem": PoissonBox(dim=2)},
    (data, "WalkData"): {"family": elliptic.StarPoisson()},
    (data, "WalkClouds"): {"family": elliptic.StarPoisson()},
    (data, "ImageData"): {},
    **{(callbacks, n): {} for n in ("AdaptiveBatch", "CurvatureCallback", "FoldSelection")},
    **{(callbacks, n): {} for n in ("Progress", "StopOnNonFinite")},
    **{(callbacks, n): {"run_dir": "run"} for n in ("CSVLog", "GradientNorm", "Plots")},
    (callbacks, "ExportPretrained"): {"run_dir": "run", "model": "m", "config": {}},
    (callbacks, "RunCheckpoint"): {"run_dir": "run", "config": {}},
    (callbacks, "RunRecord"): {"run_dir": "run", "model": "m", "optimizer": "adam", "config": {}},
    **{(optim, n): {} for n in ("Constant", "Linear", "Cosine", "Exponential")},
    (geometry, "Ball"): {},
    (geometry, "Ellipse"): {},
    (geometry, "Box"): {},
    (geometry, "Polygon"): {"vertices": SQUARE},
    (geometry, "Star"): {"cosine": [[0.1, 0.1]]},
    (geometry, "Boolean"): {"first": geometry.Ball(), "second": geometry.Box(), "kind": "union"},
    (geometry, "Tabulated"): {"domain": geometry.Ball(), "nodes": 5},
    (geometry, "inscribed"): {"domain": geometry.Ball()},
    (geometry, "triangulated_domain"): {"vertices": SQUARE[:3], "faces": [[0, 1, 2]]},
    (elliptic, "Dirichlet"): {"boundary": zero},
    (walks, "Mixed"): {"boundary": zero},
    **{(elliptic, n): {} for n in ("StarPoisson", "StarScreened", "StarDiffusion", "BoxPoisson")},
    **{(walks, n): {} for n in ("WalkOnSpheres", "WalkOnStars")},
}


@pytest.mark.parametrize("place", CLASSES, ids=lambda place: place[1])
def test_constructors(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, needed = getattr(*place), CLASSES[place]
    make(**needed)
    optional = {p.name: p for p in inspect.signature(make).parameters.values()}
    left_out = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = [n for n, p in optional.items() if p.kind not in left_out]
    # `solver` and `adjoint` are objects of any kind, looked at where they are called
    names = [n for n in names if n not in ("solver", "adjoint")]
    good = {n: needed.get(n, optional[n].default) for n in names}
    for label, call in spoilt(make, good, dict.fromkeys(names, TOO_LARGE)):
        only_ours(label, call)


DOMAINS = {
    "Ball": geometry.Ball(),
    "Box": geometry.Box(),
    "Polygon": geometry.Polygon(SQUARE),
    "union": geometry.union(geometry.Ball(), geometry.Box()),
}
SPOILT = (torch.ones(2, 2).to_sparse(), POINTS.to("meta"), POINTS.to(torch.complex64), np.ones(3))


@pytest.mark.parametrize("name", DOMAINS)
def test_methods_of_domains(name):
    domain = DOMAINS[name]
    for method in (domain.signed_distance, domain.inside, domain.project):
        for label, call in spoilt(method, {"points": POINTS}):
            only_ours(label, call)
        for value in SPOILT:
            with pytest.raises((InvalidArgument, InvalidType)):
                method(value)
    given = {"n": 3, "generator": GENERATOR, "dtype": torch.float64}
    for method in (domain.sample_interior, domain.sample_boundary):
        for label, call in spoilt(method, given):
            only_ours(label, call)
        with pytest.raises(InvalidType, match="dtype"):
            method(3, GENERATOR, torch.int64)
    assert domain.sample_boundary(0, GENERATOR).points.shape == (1, 0, 2)
    for label, call in spoilt(domain.select, {"index": torch.tensor([0])}):
        only_ours(label, call)


@pytest.mark.parametrize("family", [elliptic.StarPoisson(), elliptic.BoxPoisson()])
def test_laws_of_problems(family):
    for label, call in spoilt(
        family.domains, {"count": 2, "generator": GENERATOR}, {"count": TOO_LARGE}
    ):
        only_ours(label, call)
    drawn = {"domain": family.domains(2, GENERATOR), "generator": GENERATOR}
    for label, call in spoilt(family.fields, drawn):
        only_ours(label, call)


def test_terms_of_a_loss():
    good = {"name": "a", "residual": torch.ones(2), "weight": 1.0, "count": 2, "idle": False}
    for label, call in spoilt(optim.LossTerm, good):
        only_ours(label, call)
    for name in ("name", "weight", "count", "idle"):
        with pytest.raises(InvalidType, match=f"LossTerm.{name}"):
            optim.LossTerm(**{**good, name: [["a"]]})
    given = {"evaluate": lambda: [optim.LossTerm(**good)], "seed": 0, "step": 0}
    for label, call in spoilt(optim.Objective, given):
        only_ours(label, call)


def test_gradients_of_walks():
    given = {
        "engine": walks.WalkOnSpheres(walks=4),
        "domain": geometry.Ball(),
        "problem": Dirichlet(zero),
        "points": POINTS,
        "generator": GENERATOR,
    }
    for label, call in spoilt(walks.estimate_gradients, given):
        only_ours(label, call)


@pytest.mark.parametrize("value", [float("nan"), b"ab", "1"])
def test_what_is_no_number_is_told_by_its_name(value):
    with pytest.raises((InvalidArgument, InvalidType), match="spread"):
        elliptic.StarPoisson(spread=value)
    with pytest.raises((InvalidArgument, InvalidType), match="screening"):
        Dirichlet(zero, screening=value)


def test_nonsense_is_never_taken_for_a_switch_or_a_name():
    for value in (v for k, v in NONSENSE.items() if k not in ("true", "text")):
        with pytest.raises((InvalidArgument, InvalidType), match="pdf"):
            callbacks.Plots("run", pdf=value)
