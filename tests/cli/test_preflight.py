"""The walk over targets and the cross-checks, without Hydra."""

import collections.abc
from typing import Any, Literal

import pytest
import torch

from sciml.cli.checks import rules
from sciml.cli.runs import build
from sciml.cli.targets import plain_values, preflight, resolving
from sciml.errors import ConfigError
from sciml.optim.schedules import Constant, Cosine, Exponential, Linear, attach


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        ("1", float, False),
        (True, float, False),
        (0, bool, False),
        ("a", str, True),
        (1, str, False),
        (None, int | None, True),
        (None, int, False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (True, Literal[1, 2], False),
        ([1, 2], list[int], True),
        ([1, "a"], list[int], False),
        ("ab", list[str], False),
        ("ab", collections.abc.Sequence[str], False),
        ([0.9, 0.999], tuple[float, float], True),
        ([0.9], tuple[float, float], False),
        ([1, 2, 3], tuple[int, ...], True),
        ({"a": 1}, dict[str, int], True),
        (1, dict, False),
        ("fast", float | torch.Tensor, False),
        (0.1, float | torch.Tensor, True),
        ("x", torch.Tensor, True),  # only what is surely wrong is refused
        ({"_target_": "sciml.a"}, int, True),
        (object, Any, True),
    ],
)
def test_matches(value, annotation, fits):
    assert plain_values.matches(value, annotation) is fits


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.optimx.Adam",
        "scimlx.errors.nearest",
        "lightning.pytorch.trainer.trainer.os.system",
        "sciml.cli.main.import_module",
        "sciml.errors.difflib",
        "sciml.cli.targets.resolving.LIBRARIES",
        "sciml",
        "",
        None,
        3,
        ["sciml.errors.nearest"],
    ],
)
def test_targets_outside_are_refused(target):
    with pytest.raises(ConfigError):
        resolving.resolve(target)


def test_targets_inside_resolve():
    assert resolving.resolve("torch.optim.Adam") is torch.optim.Adam
    assert resolving.resolve("lightning.Trainer").__name__ == "Trainer"
    with pytest.raises(ConfigError, match=r"Did you mean torch\.optim\.AdamW"):
        resolving.resolve("torch.optim.AdmaW")


def test_nested_targets_and_missing_arguments():
    tree = {
        "schedule": {
            "_target_": "sciml.optim.schedules.Linear",
            "warmup": {"_target_": "os.system"},
        },
        "network": {"_target_": "sciml.networks.pointwise.mlp.MLP", "widht": 3},
        "problem": {"_target_": "sciml.physics.problems.hjb.HJBLQG"},
    }
    found = preflight.check(tree)
    assert [text.split()[0] for text in found] == [
        "schedule.warmup._target_:",
        "network.widht",
        "problem.dim",
    ]
    assert "network.width?" in found[1] and "is missing" in found[2]
    assert not any("'dim'" in text or "network.dim " in text for text in found)


def test_names_that_an_optimizer_would_drop_in_silence():
    node = {"_target_": "pytorch_optimizer.Lion", "lr": 1e-3, "weight_decey": 0.1}
    (found,) = preflight.check({"optimizer": node})
    assert "optimizer.weight_decey is unknown. Did you mean optimizer.weight_decay?" in found
    read = {"_target_": "pytorch_optimizer.ScheduleFreeAdamW", "use_palm": True}
    assert preflight.check({"optimizer": read}) == []


def test_rules_look_at_defaults_of_the_target():
    tree = {
        "problem": {"_target_": "sciml.physics.problems.hjb.HJBLQG", "dim": 4},
        "estimator": {"_target_": "sciml.autodiff.estimators.SDGD"},
        "trainer": {"_target_": "lightning.Trainer", "max_steps": 10},
    }
    found = rules.check(tree)
    assert len(found) == 2
    assert "estimator.num_dims=16" in found[0] and "problem.dim=4" in found[0]
    assert "inference_mode" in found[1]


def test_constructor_errors_name_the_key():
    with pytest.raises(ConfigError, match=r"optimizer: Adam refuses its arguments: Invalid beta"):
        build.make(
            "optimizer",
            {"_target_": "torch.optim.Adam", "betas": [2.0, 0.9]},
            {"params": [torch.nn.Parameter(torch.zeros(1))]},
        )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), [1, 1, 1]),
        (Linear(), [1, 0.5, 0]),
        (Linear(final=0.2), [1, 0.6, 0.2]),
        (Cosine(), [1, 0.5, 0]),
        (Exponential(final=0.25), [1, 0.5, 0.25]),
    ],
)
def test_schedules(schedule, expected):
    assert [schedule(s, 100) for s in (0, 50, 100)] == pytest.approx(expected)


def test_warmup_and_the_torch_scheduler():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = attach(optimizer, Linear(warmup=3), 13)
    rates = []
    for _ in range(13):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[8] == pytest.approx(1.0) and optimizer.param_groups[0]["lr"] == 0.0
    assert all(not callable(v) for v in scheduler.state_dict()["lr_lambdas"])
    with pytest.raises(ValueError, match="trainer.max_steps=N"):
        attach(optimizer, Linear(), -1)
    with pytest.raises(ValueError, match="schedule.final=2"):
        Linear(final=2.0)
