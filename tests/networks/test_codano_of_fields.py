"""CODANO of the neuraloperator library between fields of files: its own network, and more."""

import contextlib
import io
import warnings

import numpy as np
import pytest
import torch

from sciml.data import FieldFiles
from sciml.errors import InvalidArgument
from sciml.networks.fields import LibraryOperator
from sciml.pretrained import load_pretrained
from sciml.testing import runs


def write(path, *size):
    """Write pairs with an input of two channels."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(20, *size, 2)).astype(np.float32)
    np.savez(path, x=x, y=x[..., 0] + 2 * x[..., 1])
    return str(path)


def test_it_is_the_library_s_network_and_a_linear_map(tmp_path):
    from neuralop.models import CODANO

    data = FieldFiles(path=write(tmp_path / "a.npz", 12, 10), periodic=False)
    torch.manual_seed(3)
    ours = LibraryOperator(data.sizes["fields"], model="CODANO", width=4, modes=4, layers=2)
    torch.manual_seed(3)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        theirs = CODANO(
            output_variable_codimension=1, hidden_variable_codimension=4, lifting_channels=8,
            projection_channels=8, n_layers=2, n_modes=[[4, 4]] * 2, n_heads=[1, 1],
            per_layer_scaling_factors=[[1.0, 1.0]] * 2, attention_scaling_factors=[1.0, 1.0],
        )  # fmt: skip
    z = torch.randn(2, 4, 12, 10)  # two channels and two coordinates
    weight, bias = ours.mix.weight[0, :, 0, 0], ours.mix.bias
    wanted = torch.einsum("bcxy,c->bxy", theirs(z), weight)[:, None] + bias
    torch.testing.assert_close(ours.body(z), wanted, rtol=1e-4, atol=1e-5)


def test_it_learns_and_comes_back_at_another_resolution(tmp_path):
    words = ["model=tfno", "network.model=CODANO", f"data.path={write(tmp_path / 'a.npz', 8, 8)}",
             "network.width=4", "network.modes=4", "network.layers=1", "optimizer.lr=1e-2",
             "schedule=constant"]  # fmt: skip
    seen = runs.Losses()
    trainer = {"max_steps": 30, "limit_val_batches": 0}
    run = runs.fit(runs.prepare(words, tmp_path, callbacks=["export"], trainer=trainer), seen)
    assert sum(seen.values[-5:]) < 0.5 * sum(seen.values[:5])
    x = torch.rand(2, 12, 8, 2)
    with torch.no_grad():
        wanted = run.module.network.eval().infer(x=x)["y"]
    found = load_pretrained(tmp_path).predict(x=x)["y"]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_one_direction_is_refused(tmp_path):
    data = FieldFiles(path=write(tmp_path / "a.npz", 16))
    with pytest.raises(InvalidArgument, match="CODANO in one direction"):
        LibraryOperator(data.sizes["fields"], model="CODANO")
