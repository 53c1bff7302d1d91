import pytest
import torch

from sciml.cli.paths import config_dir
from sciml.errors import PretrainedError
from sciml.networks.solutions.trial import TrialSolution
from sciml.pretrained import load_pretrained, save_pretrained, training_ranges
from sciml.pretrained.classes.class_table import CLASSES, name_of, resolve
from sciml.pretrained.classes.described_objects import build


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in CLASSES for n in CLASSES[k]])
def test_every_name_is_a_class_defined_in_the_room_that_the_table_says(kind, name):
    cls = resolve(kind, name)
    room, _, attribute = CLASSES[kind][name].partition(":")
    assert cls.__name__ == attribute and cls.__module__.startswith(f"{room}.")
    assert name_of(kind, f"{room}.{attribute}") == name
    assert name_of(kind, f"{cls.__module__}.{attribute}") == name


def test_names_outside_the_table():
    assert name_of("network", "torch.nn.Linear") is None
    assert name_of("network", "MLP") is None


@pytest.mark.parametrize("name", sorted(CLASSES["problem"]))
def test_every_problem_saves_and_predicts_bit_equal(name, tmp_path):
    spec = {"class": name, "arguments": {"dim": 4}}
    problem = build("problem", spec)
    inputs = ("x", "t") if problem.time_dependent else ("x",)
    network = {
        "class": "MLP",
        "arguments": {"dim": 4, "time": "t" in inputs, "features": 0, "width": 8, "depth": 3},
    }
    solution = TrialSolution(problem, build("network", network), inputs)
    p = problem.sample(20, torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = solution(p.x, p.t)[:, 0]
    ranges = training_ranges(p.x, p.t)
    kind = {"problem": spec, "network": network, "ranges": ranges, "name": name}
    model = load_pretrained(save_pretrained(tmp_path / "m", solution, **kind))
    after = model.predict(p.x, p.t)
    assert torch.equal(after["value"], before)
    assert after["gradient"].shape == (20, 4) and after["gradient"].isfinite().all()


KINDS = {
    "problem": ("problem",),
    "network": ("network", "operator", "part"),
    "solver": ("part",),
    "adjoint": ("part",),
}


@pytest.mark.parametrize("group", KINDS)
def test_every_configured_class_has_a_name(group):
    """A run of a shipped configuration can always be exported."""
    targets = {
        line.partition(":")[2].strip()
        for file in (config_dir() / group).glob("*.yaml")
        for line in file.read_text().splitlines()
        if line.lstrip().startswith("_target_:")
    }
    # systems are exported as the ansatz that was trained, which holds their names
    targets = {t for t in targets if not t.startswith(("sciml.physics.suite.", "${"))}
    unknown = [t for t in targets if not any(name_of(kind, t) for kind in KINDS[group])]
    assert targets and not unknown


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("nodes", None),
        ("nodes", -1),
        ("nodes", 10**12),
        ("nodes", 44.0),
        ("nodes", True),
        ("half", None),
        ("half", -1.5),
        ("half", "1.5"),
        ("width", None),
        ("width", 10**12),
    ],
)
@pytest.mark.parametrize("name", ["WosFNO", "WosGINO"])
def test_sizes_that_a_constructor_only_stores_are_checked(name, argument, value):
    good = {"nodes": 12, "width": 3, "modes": 2, "layers": 1, "hidden": 4}
    build("operator", {"class": name, "arguments": good})
    with pytest.raises(PretrainedError, match=f"{argument}="):
        build("operator", {"class": name, "arguments": {**good, argument: value}})


SYSTEMS = [
    name for name, home in CLASSES["part"].items() if home.startswith("sciml.physics.suite:")
]


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_are_built_from_their_names(name):
    """Also those whose class has no constructor of its own."""
    system = build("part", {"class": name, "arguments": {}})
    assert type(system).__name__ == name and system.outputs
    with pytest.raises(PretrainedError, match="an argument of that class"):
        build("part", {"class": name, "arguments": {"no_such_argument": 1}})
