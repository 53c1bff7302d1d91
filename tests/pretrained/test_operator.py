"""Operators in the pretrained format: schema, checks, chunks, parts, damaged folders, the verb."""

import json
import warnings

import numpy as np
import pytest
import torch

from sciml.cli.verbs import predict as verb
from sciml.errors import InvalidArgument, InvalidType, PretrainedError, RangeWarning
from sciml.pretrained import PretrainedOperator, load_pretrained, save_operator
from sciml.pretrained.classes import class_table
from sciml.pretrained.saving import card
from sciml.solvers import Anderson


class TinyOperator(torch.nn.Module):
    """value = w f + s, with a shared scale s and whole numbers that pick a row."""

    def __init__(self, *, width: int, solver: Anderson | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(width))
        self.solver = solver
        self.calls = 0

    def schema(self):
        return {
            "inputs": {
                "f": {"shape": ["N", "H", 3], "unit": "m", "dtype": "float"},
                "row": {"shape": ["N"], "unit": "1", "dtype": "int"},
                "shift": {"shape": ["H"], "unit": "1", "dtype": "float", "optional": True},
            },
            "outputs": {"value": {"shape": ["N", "H"], "unit": "K"}},
        }

    def forward(self, f, row, shift=None):
        self.calls += 1
        value = f.sum(-1) * self.weight[row][:, None]
        return value if shift is None else value + shift

    def infer(self, **inputs):
        return {"value": self(**inputs)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(class_table.CLASSES["operator"], "TinyOperator", f"{__name__}:TinyOperator")
    torch.manual_seed(0)
    solver = {"class": "Anderson", "arguments": {"rtol": 1e-3, "window": 4}}
    return save_operator(
        tmp_path / "tiny",
        TinyOperator(width=4, solver=Anderson(rtol=1e-3, window=4)),
        arguments={"width": 4, "solver": solver},
        ranges={"f": (-1.0, 1.0)},
        name="tiny",
        metrics={"test/rel_l2": 0.5},
    )


F, ROW = torch.linspace(-1, 1, 5 * 2 * 3).reshape(5, 2, 3), torch.tensor([0, 1, 2, 3, 0])


def test_loads_with_its_parts_and_predicts_the_same(folder):
    torch.manual_seed(0)
    wanted = TinyOperator(width=4)(F, ROW)
    model = load_pretrained(folder)
    assert isinstance(model, PretrainedOperator) and model.metrics == {"test/rel_l2": 0.5}
    assert model.network.solver == Anderson(rtol=1e-3, window=4)
    assert torch.equal(model.predict(f=F, row=ROW)["value"], wanted)
    assert torch.equal(model.predict(F, ROW.int())["value"], wanted)  # by order, other integers
    assert torch.equal(model(f=F, row=ROW), wanted)
    shifted = model.predict(F, ROW, torch.tensor([1.0, 0.0]))["value"]
    assert torch.allclose(shifted - wanted, torch.tensor([1.0, 0.0]), rtol=1e-5, atol=1e-8)


def test_chunks_give_the_same(folder):
    model = load_pretrained(folder)
    whole = model.predict(F, ROW)["value"]
    before = model.network.calls
    assert torch.equal(model.predict(F, ROW, chunk=2)["value"], whole)
    assert model.network.calls - before == 3
    with pytest.raises(InvalidArgument, match="chunk=0"):
        model.predict(F, ROW, chunk=0)


def test_gradients_pass_through_the_inputs(folder):
    f = F.clone().requires_grad_()
    model = load_pretrained(folder)
    model(f=f, row=ROW).sum().backward()
    assert torch.allclose(
        f.grad, model.network.weight[ROW][:, None, None].expand(5, 2, 3), rtol=1e-6, atol=1e-8
    )
    assert model.network.weight.grad is None


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"f": F}, "no row"),
        ({"f": F, "row": ROW, "shfit": ROW}, "Did you mean 'shift'"),
        ({"f": F[..., :2], "row": ROW}, r"f has shape \(5, 2, 2\).*\(N, H, 3\)"),
        ({"f": F, "row": ROW[:4]}, r"row has shape \(4,\).*N = 5"),
        ({"f": F[:0], "row": ROW[:0]}, r"f has shape \(0, 2, 3\)"),
        ({"f": F / 0, "row": ROW}, "f is not finite in 30 of 30"),
        ({"f": F, "row": ROW.float()}, "row has dtype torch.float32.*integers"),
        ({"f": F.to(torch.complex64), "row": ROW}, "real"),
        ({"f": "abc", "row": ROW}, "f is a str"),
    ],
)
def test_wrong_inputs_are_explained(folder, inputs, message):
    with pytest.raises((InvalidArgument, InvalidType), match=message):
        load_pretrained(folder).predict(**inputs)
    with pytest.raises(InvalidArgument, match="'f' twice"):
        load_pretrained(folder).predict(F, f=F)


def test_values_outside_the_training_range_warn(folder):
    model = load_pretrained(folder)
    with pytest.warns(RangeWarning, match=r"f covers \[-3, 3\]; training covered \[-1, 1\]"):
        model.predict(3 * F, ROW)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(F, ROW)


def edit(folder, change):
    spec = json.loads((folder / "model.json").read_text())
    change(spec)
    (folder / "model.json").write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"class": "TinyOperatr"}), "TinyOperatr"),
        (lambda s: s["arguments"].update(width=5), "shape"),
        (lambda s: s["arguments"].update(depth=5), "passes 'depth'"),
        (lambda s: s["arguments"]["solver"].update({"class": "os:system"}), "never followed"),
        (lambda s: s["arguments"]["solver"].update({"class": "TinyOperator"}), "part class"),
        (lambda s: s["arguments"]["solver"]["arguments"].update(windw=1), "Did you mean 'window'"),
        (lambda s: s["arguments"]["solver"]["arguments"].update(window=-1), "refuses"),
        (lambda s: s["inputs"].pop("row"), "lists the inputs"),
        (lambda s: s["inputs"]["f"].update(unit="km"), "describes 'f'"),
        (lambda s: s["inputs"]["f"].update(shape=["N", "H", 4]), "describes 'f'"),
        (lambda s: s["inputs"]["f"].update(ranges={"value": ["a", 1]}), "range"),
        (lambda s: s["outputs"].update(more={"shape": ["N"], "unit": "1"}), "lists the outputs"),
    ],
)
def test_damaged_descriptions_are_refused(folder, change, message):
    edit(folder, change)
    with pytest.raises(PretrainedError, match=message):
        load_pretrained(folder)


def test_a_wrong_description_fails_at_save_time(tmp_path, folder):
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(PretrainedError):
        save_operator(folder, TinyOperator(width=4), arguments={"width": 3}, ranges={}, name="tiny")
    assert sorted(p.name for p in folder.iterdir()) == before  # the old folder stays
    load_pretrained(folder)


def test_the_card_says_how_to_call_it(folder):
    card = (folder / "README.md").read_text()
    assert 'model.predict(f, row, shift=None)  # out["value"] (N, H)' in card
    assert "| f | (N, H, 3) | m | f in [-1, 1] |" in card and "Anderson" in card


def test_the_verb_reads_and_writes_arrays(folder, tmp_path, capsys):
    np.savez(tmp_path / "in.npz", f=F.numpy(), row=ROW.numpy())
    out = tmp_path / "out.npz"
    assert verb.main([str(folder), str(tmp_path / "in.npz"), "-o", str(out)]) == 0
    wanted = load_pretrained(folder).predict(F, ROW)["value"]
    np.testing.assert_allclose(np.load(out)["value"], wanted.numpy(), rtol=1e-6)
    assert verb.main([str(folder), str(tmp_path / "in.csv"), "-o", str(out)]) == 2
    assert "ending in .npz" in capsys.readouterr().err
    np.savez(tmp_path / "bad.npz", f=F.numpy())
    assert verb.main([str(folder), str(tmp_path / "bad.npz"), "-o", str(out)]) == 2
    assert "no row" in capsys.readouterr().err


@pytest.mark.parametrize("turn", ["rows", "columns", "every second", "big end", "both"])
def test_arrays_are_taken_in_any_order_of_memory_and_bytes(turn):
    torch.manual_seed(0)
    network = TinyOperator(width=3)
    model = PretrainedOperator(network, {"inputs": network.schema()["inputs"], "metrics": {}})
    f = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    there = {
        "rows": f[::-1], "columns": f[:, ::-1], "every second": f[::2],
        "big end": f.astype(">f4"), "both": f.astype(">f8")[::-1, ::-2],
    }[turn]  # fmt: skip
    row = np.arange(len(there)) % 3
    found = model.predict(f=there, row=row.astype(">i8")[::-1])["value"].numpy()
    weight = network.weight.detach().numpy()[row[::-1]]
    wanted = there.astype(np.float32).sum(-1) * weight[:, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_card_lists_what_is_given_and_what_is_predicted_of_a_trajectory():
    spec = {
        "name": "waves", "description": "", "class": "GridFNO", "arguments": {}, "metrics": {},
        "inputs": {"u": {"shape": ["N", 2, "H"], "unit": "m", "ranges": {"value": [0.0, 1.0]}}},
        "outputs": {"u": {"shape": ["N", 3, "H"], "unit": "m"}}, "data": {}, "versions": {},
    }  # fmt: skip
    text = card.render(spec)
    rows = [line for line in text.splitlines() if line.startswith("| u |")]
    assert [row.split(" | ")[1] for row in rows] == ["(N, 2, H)", "(N, 3, H)"]
    assert "what is given" in rows[0] and "[0, 1]" in rows[0] and "what is predicted" in rows[1]
