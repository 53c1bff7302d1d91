"""What constructors refuse, ours and other libraries', and what they take."""

import functools
import inspect
import math

import pytest
import pytorch_optimizer
import torch
from torch import nn

from sciml import optim
from sciml.errors import InvalidArgument, InvalidType, SciMLError
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.construct import construct
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.option_ranges import at_least, number, parameters_of, shares

NAN, INF = math.nan, math.inf
OURS = [getattr(optim, n) for n in optim.__all__ if hasattr(getattr(optim, n), "step")]
FOREIGN = [
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.LBFGS,
    pytorch_optimizer.SOAP,
    pytorch_optimizer.Muon,
    pytorch_optimizer.Lion,
    pytorch_optimizer.Adan,
    pytorch_optimizer.Shampoo,
]


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))


@pytest.mark.parametrize("cls", OURS + FOREIGN)
@pytest.mark.parametrize("lr", [-1, NAN, INF, -INF, "nope", "1e-3", True, []])
def test_no_rate_that_is_none(cls, lr):
    with pytest.raises(SciMLError, match=r"optimizer\.lr="):
        construct(functools.partial(cls, lr=lr), network())


BAD = {
    optim.KFAC: {
        "damping": [0, -1, NAN, INF],
        "momentum": [-0.1, 1, NAN],
        "decay": [1.0, NAN],
        "kl_clip": [0, NAN],
        "start": [-1, NAN],
        "curvature_every": [0, 1.5, NAN],
        "inverse_every": [0, -1],
        "adapt_every": [-1, NAN],
        "step": ["nope", None],
        "ekfac": ["no", 1],
        "fallback_lr": [-1, NAN],
        "grad_worker_fraction": [None, [], NAN, 2, "nope", True],
    },
    optim.ENGD: {"damping": [0, NAN, "x"], "line_search": ["no"], "adapt_every": [-1, 0.5]},
    optim.SPRING: {"momentum": [1, NAN], "max_norm": [0, NAN, INF], "damping": [NAN]},
    optim.MKOR: {"decay": [0, 1, NAN], "limit": [0, NAN], "statistic": ["median"]},
    optim.MFAC: {"history": [0, 2.5], "damping": [0, NAN], "weight_decay": [-1, NAN]},
    optim.GaLore: {
        "rank": [0, -1, 1.5, NAN],
        "betas": [(0.9,), (0.9, NAN), (-0.1, 0.9), (0.9, 1.0), 0.9, "nope", ("a", "b")],
        "eps": [-1, NAN],
        "weight_decay": [-1, NAN],
        "scale": [0, NAN],
        "side": ["up"],
        "update_every": [0],
        "budget": [0, NAN],
    },
    optim.NaturalGaLore: {"history": [-1], "damping": [0, NAN], "on_refresh": ["forget"]},
    optim.SophiaG: {"eps": [0, NAN], "gamma": [0, NAN], "betas": [(NAN, 0.9)]},
    optim.AdaHessian: {"eps": [NAN], "hessian_power": [0, 1.5, NAN], "block": [0, 1.5]},
    optim.SSBroyden: {"c1": [NAN], "c2": [NAN, 1.5], "max_evaluations": [0], "variant": ["sr1"]},
    optim.CBO: {"particles": [1, 2.5], "noise": [-1, NAN], "alpha": [NAN], "chunk": [0]},
    optim.DeepZero: {"smoothing": [0, NAN], "sparsity": [1, NAN], "probes": [0, 1.5]},
    optim.PolyStep: {"probe": [NAN], "temperature": [0, NAN], "subspace": [0, NAN]},
    torch.optim.Adam: {
        "betas": [(0.9,), (0.9, NAN), 0.9, "nope"],
        "eps": [-1, NAN, INF],
        "weight_decay": [INF, NAN],
        "fused": ["no", 1.5],
    },
    torch.optim.SGD: {"momentum": [NAN, 1.5], "weight_decay": [NAN], "nesterov": ["no"]},
    torch.optim.LBFGS: {
        "max_iter": [0, NAN],
        "history_size": [-1, NAN],
        "line_search_fn": ["wolfe"],
        "lr": [0],
    },
    pytorch_optimizer.SOAP: {"eps": [NAN], "precondition_frequency": [0, NAN], "betas": [(0.9,)]},
    pytorch_optimizer.Muon: {"ns_steps": [0, NAN], "momentum": [NAN], "weight_decay": [NAN]},
    pytorch_optimizer.Shampoo: {"preconditioning_compute_steps": [0, NAN], "matrix_eps": [NAN]},
    pytorch_optimizer.Adan: {"betas": [(0.9, 0.9)], "eps": [None, NAN]},
}


@pytest.mark.parametrize("cls", BAD)
def test_nonsense_is_refused_with_the_name_of_the_option(cls):
    for name, values in BAD[cls].items():
        for value in values:
            with pytest.raises(SciMLError, match=rf"optimizer\.{name}="):
                construct(functools.partial(cls, **{name: value}), network())


def test_what_a_foreign_constructor_refuses_is_of_the_same_family():
    make = functools.partial(torch.optim.SGD, nesterov=True, momentum=0.0)
    with pytest.raises(InvalidArgument, match="Nesterov momentum requires"):
        construct(make, network())


@pytest.mark.parametrize("cls", [optim.SophiaG, optim.AdaHessian, optim.GaLore, optim.MFAC])
def test_groups_are_checked_like_the_common_options(cls):
    for option in ({"lr": NAN}, {"weight_decay": -1}):
        with pytest.raises(InvalidArgument, match=next(iter(option))):
            cls([{"params": list(network().parameters()), **option}])


CURVED = [cls for cls in OURS if issubclass(cls, CurvatureOptimizer)]
GROUPED = [optim.SophiaG, optim.SophiaH, optim.AdaHessian]


@pytest.mark.parametrize("cls", CURVED)
def test_one_step_for_all_parameters_has_one_group(cls):
    net = network()
    optimizer = cls(net[0])
    more = {"params": list(net[2].parameters()), "lr": 0.0}
    if cls in GROUPED:
        optimizer.add_param_group(more)
        assert len(optimizer.param_groups) == 2
        return
    with pytest.raises(InvalidArgument, match="several groups"):
        optimizer.add_param_group(more)
    assert len(optimizer.param_groups) == 1
    with pytest.raises(SciMLError, match="group|module"):
        cls([{"params": list(net[0].parameters())}, more])


@pytest.mark.parametrize("cls", CURVED)
def test_weights_frozen_too_late_are_said(cls):
    net, x = network(), torch.rand(5, 2)
    optimizer = cls(net)
    net[0].weight.requires_grad_(False)
    objective = Objective(lambda: [LossTerm("data", net(x)[:, 0], 1.0, 5)])
    with pytest.raises(InvalidArgument, match="1 parameters that no longer require"):
        optimizer.update_curvature(objective)


VALUES = [-1, NAN, INF, -INF, "3", None, True, [], {}, 10**30]


@pytest.mark.parametrize("cls", OURS)
def test_no_option_takes_nonsense(cls):
    """Every option, every value: refused in our words, or what the option is documented to take."""
    for name, option in list(inspect.signature(cls).parameters.items())[1:]:
        for value in VALUES:
            said = str(option.annotation)
            fine = option.default is value or (value is None and "None" in said)
            fine |= value is True and "bool" in said
            if fine:
                cls(network(), **{name: value})
                continue
            with pytest.raises(SciMLError):
                cls(network(), **{name: value})
                pytest.fail(f"{cls.__name__}({name}={value!r}) was taken")


def test_a_rate_of_zero_freezes_the_optimizers_that_know_it():
    for cls in (torch.optim.SGD, torch.optim.Adam):
        assert construct(functools.partial(cls, lr=0.0), network()).param_groups[0]["lr"] == 0.0


@pytest.mark.parametrize("cls", OURS)
def test_a_module_or_its_parameters(cls):
    layered = cls in (optim.KFAC, optim.MKOR)
    net = network()
    assert len(cls(net).treated) == 4
    for given in (net.parameters(), list(net.named_parameters())):
        if layered:
            with pytest.raises(InvalidType, match=rf"Write {cls.__name__}\(network\)"):
                cls(given)
        else:
            assert [id(p) for p in cls(given).treated] == [id(p) for p in net.parameters()]
    for wrong in (net[0].weight, 3, "network", {"params": [net[0].weight]}, [net]):
        with pytest.raises(InvalidType, match=rf"{cls.__name__}\(network"):
            cls(wrong)
    if not layered:
        with pytest.raises(InvalidArgument, match="something to train"):
            cls([])


def test_rules_of_numbers():
    number(at_least(2), particles=2)
    number(at_least(2), particles=torch.tensor(3))
    with pytest.raises(InvalidType, match="a whole number, 2 or more"):
        number(at_least(2), particles=2.0)
    assert shares([0.9, torch.tensor(0.5)], 2) == (0.9, 0.5)


def test_what_holds_no_parameters_is_told_from_what_does():
    weight = torch.nn.Parameter(torch.zeros(2))
    for fine in ([weight], [{"params": [weight]}], [("name", weight)]):
        parameters_of(fine, "Adam")
    for wrong in ([{"lr": 1.0}], ["x"], [("name", 1.0)], [{"name": "x"}, weight]):
        with pytest.raises(InvalidType, match="Adam of a list with a"):
            parameters_of(wrong, "Adam")
