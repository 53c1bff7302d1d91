"""Models from the hub, with a stand-in for its library: what is asked for, what is refused."""

import shutil
import sys
import types

import pytest
import torch

from sciml.errors import InvalidArgument, MissingPackage, PretrainedError
from sciml.pretrained import load_pretrained


@pytest.fixture
def hub(saved, monkeypatch, tmp_path):
    """A hub that has the tiny model as owner/tiny; returns the calls made."""
    folder, _ = saved
    calls = []

    def snapshot_download(repository, *, revision, allow_patterns, local_dir):
        calls.append((repository, revision, allow_patterns))
        if repository != "owner/tiny":
            raise OSError("404")
        shutil.copytree(folder, local_dir, dirs_exist_ok=True)
        return str(local_dir)

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("SCIML_CACHE", str(tmp_path / "cache"))
    return calls


def test_a_pinned_model_is_the_one_that_was_saved(hub, saved):
    x, t = torch.full((3, 5), 0.9), torch.full((3, 1), 0.5)
    model = load_pretrained("hf://owner/tiny", revision="a1b2c3")
    assert torch.equal(
        model.predict(x, t)["value"], load_pretrained(saved[0]).predict(x, t)["value"]
    )
    files = ["model.json", "weights.safetensors", "README.md"]
    assert hub == [("owner/tiny", "a1b2c3", files)]  # no code, no pickles of the repository


@pytest.mark.parametrize(
    ("address", "revision", "message"),
    [
        ("hf://owner/tiny", None, "without a revision"),
        ("hf://tiny", "main", "Expected hf://owner/name"),
        ("hf://owner/tiny/../../etc", "main", "Expected hf://owner/name"),
    ],
)
def test_addresses_are_checked(hub, address, revision, message):
    with pytest.raises(InvalidArgument, match=message):
        load_pretrained(address, revision=revision)
    assert hub == []


def test_revisions_stay_inside_the_cache(hub, tmp_path):
    for revision in ("../../../evil", ".."):
        load_pretrained("hf://owner/tiny", revision=revision)
    assert {p.name for p in (tmp_path / "cache/hub").iterdir()} == {"owner--tiny"}
    found = {p.name for p in (tmp_path / "cache/hub/owner--tiny").iterdir()}
    assert found == {"at-..-..-..-evil", "at-.."}


def test_failures_are_explained(hub, saved, monkeypatch):
    with pytest.raises(PretrainedError, match="revision main cannot be had.*404"):
        load_pretrained("hf://owner/other", revision="main")
    with pytest.raises(InvalidArgument, match="it is local"):
        load_pretrained(saved[0], revision="main")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackage, match=r"sciml-torch\[hub\]"):
        load_pretrained("hf://owner/tiny", revision="main")
