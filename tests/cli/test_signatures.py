"""Arguments read from source are those that the interpreter sees."""

import re
import subprocess
import sys

import pytest

from sciml.cli import paths
from sciml.cli.targets import resolving
from sciml.cli.typed import overrides, schema
from sciml.cli.typed.signatures import misfit, named_arguments

FILES = sorted(paths.config_dir().rglob("*.yaml"))
TARGETS = {name for f in FILES for name in re.findall(r"_target_: ([\w.]+)", f.read_text())}
# Their text does not say: names of these are asked for by importing them.
LEFT = (
    "pytorch_optimizer.",
    "sciml.physics.solids.",
    "sciml.physics.suite.",
    "sciml.callbacks.EMAWeightAveraging",
)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_target_of_the_configurations(target):
    found = named_arguments(target)
    if found is None:
        assert target.startswith(LEFT) or target == "sciml.optim.Refined"
        return
    known, free = resolving.arguments(resolving.resolve(target))
    assert found == (set(known), free)


SOURCE = """
import functools
from dataclasses import dataclass, field
from typing import ClassVar
from elsewhere_too import *

class Plain:
    def __init__(self, a, /, b=1, *rest, c, **more): ...

class Child(Plain):
    size = 3

@dataclass(frozen=True)
class Data:
    x: int
    y: float = 1.0
    kind: ClassVar[str] = "k"

@dataclass
class More(Data):
    z: int = 0

@dataclass
class Hidden:
    x: int = field(init=False)

@functools.total_ordering
class Decorated:
    def __init__(self, a): ...

class New:
    def __new__(cls, a): ...

class Meta(metaclass=type):
    def __init__(self, a): ...

class Bare: ...
"""


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Plain", ({"a", "b", "c"}, True)),
        ("Child", ({"a", "b", "c"}, True)),
        ("Data", ({"x", "y"}, False)),
        ("More", ({"x", "y", "z"}, False)),
        *((name, None) for name in ("Hidden", "Decorated", "New", "Meta", "Bare", "Absent")),
    ],
)
def test_what_the_text_does_not_settle_is_left_open(name, wanted, tmp_path, monkeypatch):
    (tmp_path / "made_for_signatures.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    found = named_arguments(f"made_for_signatures.{name}")
    assert found == wanted
    assert "made_for_signatures" not in sys.modules
    assert named_arguments("no.such.module.X") is None


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("a", "x", "a whole number"),
        ("a", 2.5, None),  # numbers are told apart by the class
        ("a", "${seed}", None),
        ("b", "x", "a number, or None"),
        ("c", "yes", "True or False"),
        ("d", "lefd", "'left', 'right'"),
        ("d", "left", None),
        ("e", "x", "a whole number, or a list of whole numbers"),
        ("f", "x", None),
        ("g", "x", None),
        ("h", "x", None),
        ("a", [8], "a whole number"),
        ("d", ["left"], None),
        ("e", [8, 16], None),
        ("e", [8, "x"], "a whole number, or a list of whole numbers"),
        ("e", [8, "${seed}"], None),
        ("i", "x", "a whole number, or None"),
        ("j", "x", "a whole number, or a number, or None"),
        ("k", "x", "a number"),
        ("l", "x", None),
        ("m", "x", None),
    ],
)
def test_words_where_numbers_are_wanted_are_told_from_the_text(
    name, value, wanted, tmp_path, monkeypatch
):
    (tmp_path / "made_for_values.py").write_text(
        "class Made:\n"
        "    def __init__(self, a: int, b: float | None, c: bool, d: Literal['left', 'right'],\n"
        "                 e: int | Sequence[int], f: str | int, g: Strange, h,\n"
        "                 i: Optional[int], j: Optional[Union[int, float]],\n"
        "                 k: Union[float, Tensor], l: Union[str, int], m: Tensor): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = misfit("made_for_values.Made", name, value)
    assert (found and found[0]) == wanted
    assert "made_for_values" not in sys.modules


MODES = "network.modes is 'a'. Expected a whole number"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("network.modes=a", MODES),
        ("network.width=wide", "network.width is 'wide'. Expected a whole number."),
        ("module.squared=perhaps", "module.squared is 'perhaps'. Expected True or False."),
        # beside words of which only imports and files tell whether they are right
        ("data.path=/no/such.npz network.modes=a", MODES),
        ("network.modes=a data.path=README.md hydra.run.dir=/nowhere seed=1", MODES),
        ("network.modes=a trainer.gradient_clip_val=1 trainer.devices=[0,1]", MODES),
        ("network=fno optimizer=kfac estimator=null network.modes=a", MODES),
        ("optimizer.weight_decay=0.1 +callbacks.mine.width=3 network.modes=a", MODES),
        ("data.path=README.md network.modes=[8,b]", "network.modes is [8, 'b']. Expected"),
        ("data.path=README.md optimizer.lr=quick", "optimizer.lr is 'quick'. Expected a number"),
        ("data.path=README.md trainer.max_epochs=x", "trainer.max_epochs is 'x'. Expected"),
        ("-m data.path=README.md network.modes=8,a", MODES),
    ],
)
def test_a_word_for_a_number_is_refused_before_torch_is_imported(words, said):
    program = (
        "import sys; from sciml.cli.train import main\n"
        f"code = main(['model=fno', *{words.split()!r}])\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr


def test_what_is_missing_without_a_word_is_not_said_of_it():
    schema.register()
    found = overrides.read(["model=fno", "trainer.max_steps=3", "seed=2"], paths.config_dir())
    assert found.findings == ["no value for data.path. Add data.path=VALUE."]
