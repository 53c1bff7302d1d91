"""Operators that are damaged or made to do harm: each refused, with a message that says why."""

import json
import os
import pickle
import shutil
import sys

import pytest
import torch
from test_damaged import (
    Payload,
    change_state,
    edit,
    link_outside,
    rewrite_weights,
    set_key,
    truncate,
    unlink,
    write,
)

from sciml.errors import PretrainedError
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.image.deq_classifier import DEQ
from sciml.pretrained import load_pretrained, save_operator
from sciml.solvers import Anderson

WIDTHS = {"nodes": 12, "width": 3, "modes": 2, "layers": 1, "hidden": 4}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folders of a small operator, and of one with a solver inside."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whole")
    ranges = {"sdf": (-1.0, 2.0)}
    save_operator(folder / "wos", WosFNO(**WIDTHS), arguments=WIDTHS, ranges=ranges, name="wos")
    sizes = {"width": 8, "head": 8, "groups": 2}
    solver = {"class": "Anderson", "arguments": {"rtol": 1e-3}}
    save_operator(
        folder / "deq",
        DEQ(**sizes, solver=Anderson(rtol=1e-3)),
        arguments={**sizes, "solver": solver},
        ranges={"image": (0.0, 1.0)},
        name="deq",
    )
    return folder


def device_file(folder):
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").mkdir()


def huge_header(folder):
    """A header that claims to be longer than any memory."""
    rewrite_weights(folder, (2**62).to_bytes(8, "little") + b"{}")


def overlapping(folder):
    """Tensors whose offsets lie outside the file."""
    header = json.dumps({"mix": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    rewrite_weights(folder, len(header).to_bytes(8, "little") + header)


def torch_archive(folder):
    torch.save({"mix": Payload()}, folder / "weights.bin")
    rewrite_weights(folder, (folder / "weights.bin").read_bytes())


def code_beside(folder):
    """A module of the name that is asked for lies in the folder and in the current one."""
    (folder / "evil.py").write_text("print('code ran')\nclass WosFNO: pass\n")
    edit(folder, lambda s: s.update({"class": "evil:WosFNO"}))


def swap(folder):
    """The weights of another operator, checksum and all."""
    rewrite_weights(folder, (folder.parent / "deq/weights.safetensors").read_bytes())


CASES = {
    "no weights": ("wos", unlink("weights.safetensors"), "weights.safetensors is missing"),
    "no model.json": ("wos", unlink("model.json"), "holds no model.json"),
    "a folder in place of weights": ("wos", device_file, "is missing"),
    "half of model.json": (
        "wos",
        lambda f: write((f / "model.json").read_text()[:200])(f),
        "not valid JSON",
    ),
    "other version": ("wos", set_key("format", value=99), "format version 99"),
    "misspelt class": ("wos", set_key("class", value="WosFN0"), "Did you mean 'WosFNO'"),
    "a class as module path": (
        "wos",
        set_key("class", value="subprocess:Popen"),
        "paths and modules are never followed",
    ),
    "code beside the weights": ("wos", code_beside, "never followed"),
    "a class of another kind": ("wos", set_key("class", value="MLP"), "'MLP'"),
    "a solver that is no solver": (
        "deq",
        set_key("arguments", "solver", "class", value="os:system"),
        "part class 'os:system'",
    ),
    "a solver's hostile argument": (
        "deq",
        set_key("arguments", "solver", "arguments", "__class__", value="x"),
        "passes '__class__' to Anderson",
    ),
    "an operator as part": (
        "deq",
        set_key("arguments", "solver", "class", value="DEQ"),
        "part class 'DEQ'",
    ),
    "a problem in place of a number": (
        "wos",
        set_key("arguments", "width", value={"class": "Poisson", "arguments": {"dim": 2}}),
        "part class 'Poisson'",
    ),
    "unknown argument": ("wos", set_key("arguments", "depth", value=3), "passes 'depth'"),
    "impossible argument": ("wos", set_key("arguments", "dim", value=7), "refuses its arguments"),
    "an argument of the wrong type": (
        "wos",
        set_key("arguments", "modes", value="ten"),
        "passes modes=ten to WosFNO. Expected an integer",
    ),
    "more weights than any memory": (
        "wos",
        set_key("arguments", "width", value=10**8),
        "of more than .* MB, the weights have",
    ),
    "more layers than any patience": (
        "wos",
        set_key("arguments", "layers", value=10**9),
        "of more than .* MB, the weights have",
    ),
    "another grid than the weights": ("wos", set_key("arguments", "modes", value=3), "shape"),
    "inputs that are not its own": (
        "wos",
        lambda f: edit(f, lambda s: s["inputs"].pop("source")),
        "lists the inputs",
    ),
    "a unit changed": ("wos", set_key("inputs", "sdf", "unit", value="km"), "describes 'sdf'"),
    "a range that is none": (
        "wos",
        set_key("inputs", "sdf", "ranges", "value", value=["-inf", {}]),
        "the range",
    ),
    "outputs added": (
        "wos",
        lambda f: edit(f, lambda s: s["outputs"].update(more={})),
        "lists the outputs",
    ),
    "an extra key": ("wos", set_key("post_load", value="rm -rf"), "unknown key 'post_load'"),
    "a tensor missing": ("wos", lambda f: change_state(f, lambda s: s.pop("mix")), "'mix' is miss"),
    "a tensor too many": (
        "wos",
        lambda f: change_state(f, lambda s: s.update(hook=torch.zeros(1))),
        "'hook' is not part",
    ),
    "a tensor of integers": (
        "wos",
        lambda f: change_state(f, lambda s: s.update(mix=s["mix"].long())),
        "'mix' is torch.int64",
    ),
    "another operator's weights": ("wos", swap, "do not fit"),
    "truncated weights": ("wos", truncate, "SHA-256"),
    "pickled weights": ("wos", lambda f: rewrite_weights(f, pickle.dumps(Payload())), "Pickled"),
    "a torch archive with code": ("wos", torch_archive, "Pickled"),
    "a header longer than memory": ("wos", huge_header, "cannot be read as safetensors"),
    "offsets beyond the file": ("wos", overlapping, "cannot be read as safetensors"),
    "weights elsewhere": ("wos", set_key("weights", "file", value="../x"), "never followed"),
    "a link out of the folder": ("wos", link_outside, "link out of its folder"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_and_nothing_run(case, whole, tmp_path, capsys, monkeypatch):
    kind, damage, text = CASES[case]
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / kind)  # code beside the model must not be found there either
    load_pretrained(tmp_path / kind)  # as it was, it loads
    damage(tmp_path / kind)
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    modules = set(sys.modules)
    with pytest.raises(PretrainedError, match=text):
        load_pretrained(tmp_path / kind)
    assert not ran and "code ran" not in capsys.readouterr().out
    assert not {m for m in set(sys.modules) - modules if not m.startswith(("sciml", "torch"))}
