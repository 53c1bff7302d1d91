"""Folders that are damaged or made to do harm: each refused, with a message that says why."""

import hashlib
import json
import pickle

import pytest
import safetensors.torch
import torch

from sciml.errors import PretrainedError
from sciml.pretrained import load_pretrained


def edit(folder, change):
    path = folder / "model.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))


def rewrite_weights(folder, content: bytes):
    """Exchange the weights and make the checksum agree, as a careful attacker would."""
    (folder / "weights.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit(folder, lambda spec: spec["weights"].update(sha256=digest))


def change_state(folder, change):
    state = safetensors.torch.load_file(folder / "weights.safetensors")
    change(state)
    rewrite_weights(folder, safetensors.torch.save(state))


def unlink(name):
    return lambda folder: (folder / name).unlink()


def write(text):
    return lambda folder: (folder / "model.json").write_text(text)


def set_key(*keys, value):
    def change(spec):
        for key in keys[:-1]:
            spec = spec[key]
        spec[keys[-1]] = value

    return lambda folder: edit(folder, change)


def truncate(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def link_outside(folder):
    path = folder / "weights.safetensors"
    path.rename(folder.parent / "elsewhere.safetensors")
    path.symlink_to(folder.parent / "elsewhere.safetensors")


class Payload:
    def __reduce__(self):
        return (print, ("code ran",))


NETWORK = ("arguments", "network")
CASES = {
    "no weights": (unlink("weights.safetensors"), r"weights.safetensors is missing"),
    "no model.json": (unlink("model.json"), r"holds no model.json"),
    "bad JSON": (write("{"), r"not valid JSON"),
    "deep JSON": (write("[" * 100_000), r"not valid JSON"),
    "not an object": (write("[1]"), r"no format version"),
    "binary": (lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe"), r"not valid JSON"),
    "other version": (set_key("format", value=2), r"format version 2.*Expected 1"),
    "class outside the table": (
        set_key(*NETWORK, "class", value="TinyNetwrk"),
        r"'TinyNetwrk'.*Did you mean 'TinyNetwork'",
    ),
    "class as a module path": (
        set_key(*NETWORK, "class", value="os:system"),
        r"'os:system'.*paths and modules are never followed",
    ),
    "class as a file path": (
        set_key("arguments", "problem", "class", value="../evil.py"),
        r"evil.py'.*never followed",
    ),
    "class of another kind": (
        set_key("class", value="TinyNetwork"),
        r"names the class 'TinyNetwork'.*solution or operator",
    ),
    "class not a string": (set_key("class", value=["TrialSolution"]), r"'class' is"),
    "unknown argument": (
        set_key(*NETWORK, "arguments", "widht", value=3),
        r"passes 'widht'.*Did you mean 'width'",
    ),
    "wrong argument": (
        set_key("arguments", "problem", "arguments", "dim", value=-1),
        r"TinyProblem refuses its arguments",
    ),
    "huge argument": (
        set_key(*NETWORK, "arguments", "width", value=10**15),
        r"TinyNetwork refuses its arguments",
    ),
    "unknown input": (
        set_key("arguments", "inputs", value=["x", "t", "radios"]),
        r"radios.*Did you mean 'radius'",
    ),
    "missing key": (lambda f: edit(f, lambda s: s.pop("outputs")), r"lacks the key 'outputs'"),
    "extra key": (set_key("hook", value="x"), r"unknown key 'hook'"),
    "missing tensor": (lambda f: change_state(f, lambda s: s.pop("network.out.bias")), "missing"),
    "extra tensor": (
        lambda f: change_state(f, lambda s: s.update(extra=torch.zeros(1))),
        "'extra' is not part of the model",
    ),
    "wrong shape": (
        lambda f: change_state(f, lambda s: s.update({"network.out.bias": torch.zeros(2)})),
        r"'network.out.bias' has shape \(2,\), not \(1,\)",
    ),
    "wrong kind of number": (
        lambda f: change_state(
            f, lambda s: s.update({"network.out.bias": torch.zeros(1, dtype=torch.int64)})
        ),
        r"'network.out.bias' is torch.int64",
    ),
    "truncated weights": (truncate, r"SHA-256 .*exchanged"),
    "no checksum": (set_key("weights", "sha256", value="abc"), r"no SHA-256"),
    "pickled weights": (
        lambda f: rewrite_weights(f, pickle.dumps(Payload())),
        r"cannot be read as safetensors.*Pickled weights are refused",
    ),
    "absolute path": (set_key("weights", "file", value="/etc/passwd"), "never followed"),
    "path traversal": (set_key("weights", "file", value="../weights.safetensors"), "never foll"),
    "link out of the folder": (link_outside, "link out of its folder"),
    "complex of what is real": (
        set_key("weights", "complex128", value=["network.out.bias"]),
        "complex128",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_a_clear_message(saved, case, capsys):
    damage, text = CASES[case]
    damage(saved[0])
    with pytest.raises(PretrainedError, match=text):
        load_pretrained(saved[0])
    assert "code ran" not in capsys.readouterr().out
