"""Which classes a configuration may name where, group by group."""

import collections

import lightning.pytorch as pl
import pytest
import torch

import sciml
from sciml import plugins
from sciml.cli.targets.kinds import entries_without_target, wrong_kind

FITS = {
    "network": ["sciml.networks.MLP"],
    "problem": ["sciml.physics.HJBLQG"],
    "optimizer": ["sciml.optim.KFAC", "torch.optim.Adam"],
    "schedule": ["torch.optim.lr_scheduler.StepLR", "sciml.optim.Constant"],
    "trainer": ["lightning.pytorch.Trainer"],
    "callbacks.any": ["sciml.callbacks.Plots", "lightning.pytorch.callbacks.EarlyStopping"],
    "logger.csv": ["lightning.pytorch.loggers.CSVLogger"],
    "solver": ["sciml.solvers.Anderson"],
    "adjoint": ["sciml.solvers.Implicit", "sciml.solvers.Phantom"],
    "adjoint.linear": ["sciml.solvers.GMRES"],
    "trainer.strategy": ["lightning.pytorch.strategies.DDPStrategy"],
    "trainer.profiler": ["lightning.pytorch.profilers.SimpleProfiler"],
    "data.family": ["sciml.physics.walks.StarPoisson"],
}


def named(path):
    module, _, name = path.rpartition(".")
    return getattr(__import__(module, fromlist=[name]), name)


@pytest.mark.parametrize("place", FITS)
def test_every_place_takes_its_own_kind_and_no_other(place):
    for home in FITS:
        for path in FITS[home]:
            said = wrong_kind(place, named(path))
            # both solvers; and the place of a linear one takes whatever is beside it
            alike = (home, place) in {
                ("adjoint.linear", "solver"), ("solver", "adjoint.linear"),
                ("adjoint", "adjoint.linear"),
            }  # fmt: skip
            assert (said == "") == (home == place or alike), (place, path, said)
            assert said == "" or "Expected" in said


def test_functions_private_classes_and_foreign_ones_are_refused(monkeypatch):
    assert "function" in wrong_kind("network", torch.relu)
    hidden = type("_Hidden", (torch.nn.Module,), {"__module__": "sciml.networks.any"})
    assert wrong_kind("network", hidden).startswith("private")
    within = type("Open", (torch.nn.Module,), {"__module__": "sciml.networks._own"})
    assert wrong_kind("network", within).startswith("private")
    assert wrong_kind("network", collections.Counter).startswith("no network")
    assert "no object is expected" in wrong_kind("seed", collections.Counter)
    assert "no object is expected" in wrong_kind("trainer.max_steps", collections.Counter)
    # of the right base, but from where networks of ours do not live
    stray = type("Stray", (torch.nn.Module,), {"__module__": "sciml.optim.stray"})
    assert wrong_kind("network", stray).startswith("no network")
    # a library is asked for its own kinds alone
    model = type("Model", (pl.LightningModule,), {"__module__": "lightning.pytorch.demos"})
    assert wrong_kind("module", model).startswith("no module")


def test_a_plug_in_is_of_the_right_base_and_may_live_anywhere(monkeypatch):
    theirs = type("Theirs", (torch.nn.Module,), {"__module__": "their_package.nets"})
    cell = type("Cell", (), {"__module__": "their_package.cells"})
    other = type("Cell", (), {"__module__": "another_package.cells"})
    monkeypatch.setattr(plugins, "names", lambda: {"their_package"})
    assert wrong_kind("network", theirs) == ""
    assert wrong_kind("data.cell", cell) == ""  # a kind without a base: the place decides
    assert wrong_kind("data.cell", other).startswith("no cell")
    assert wrong_kind("optimizer", theirs).startswith("no optimizer")


def test_groups_that_describe_nothing_are_told():
    config = {
        "network": {"width": 3}, "optimizer": {"_target_": "x"}, "module": None,
        "callbacks": {"a": {"every": 2}, "b": None, "c": {"_target_": "x"}}, "solver": 3,
    }  # fmt: skip
    found = entries_without_target(config)
    assert [text.partition(" ")[0] for text in found] == ["callbacks.a", "network", "solver"]
    assert sciml.__version__
