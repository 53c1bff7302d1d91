"""Rules of the house: who imports whom, what an import costs, what ships."""

import ast
import functools
import json
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import sciml

ROOT = Path(__file__).parents[1]
ROOMS = sorted(p.parent.name for p in (ROOT / "sciml").glob("*/__init__.py"))
TRAINING = ("lightning", "hydra", "omegaconf")
HEAVY = ("neuralop", "torch_geometric", "matplotlib")
FREE = ("autodiff", "networks", "optim", "physics", "pretrained", "solvers", "simulate")
# Verbs that only evaluate or list answer without training code.
LIGHT = [
    "import sciml",
    "import sciml.cli.main as m; m.main(['--help'])",
    "import sciml.cli.main as m; assert m.main(['list', 'models']) == 0",
    "import sciml.cli.main as m; assert m.main(['list', 'pretrained']) == 0",
    "import sciml.cli.main as m; m.main(['predict', 'nothing', 'none.npz', '-o', 'none'])",
    "import sciml; sciml.load_pretrained",
    # the library itself when a network is made
    "import sciml.networks.elliptic.neuraloperator_elliptic",
]


# Every code runs in a fork of one process, which has loaded `first` and nothing else.
FORKS = """
import json, os, sys
first, codes = json.loads(sys.argv[1])
exec(first)
for code in codes:
    child = os.fork()
    if not child:
        status = 1
        try:
            exec(code)
            loaded = sorted({m.partition('.')[0] for m in sys.modules})
            print("LOADED" + json.dumps([code, loaded]), flush=True)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, code
"""


@functools.cache
def loaded_by(codes: tuple[str, ...], first: str = "") -> dict[str, set[str]]:
    """Return the top-level modules that a clean process has loaded after each of `codes`."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, json.dumps([first, codes])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x[6:]) for x in done.stdout.splitlines() if x.startswith("LOADED")]
    return {code: set(loaded) for code, loaded in lines}


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_imports_in_a_clean_process(room):
    imports = {name: f"import sciml.{name}" for name in ROOMS}
    loaded = loaded_by(tuple(imports.values()), "import torch")[imports[room]]
    unwanted = HEAVY + (TRAINING if room in FREE else ())
    assert not loaded & set(unwanted) - ({"matplotlib"} if room == "callbacks" else set())


@pytest.mark.parametrize("code", LIGHT)
def test_light_commands_load_no_training_code(code):
    assert not loaded_by(tuple(LIGHT), "import torch")[code] & {*TRAINING, *HEAVY}


def test_importing_sciml_alone_loads_nothing():
    assert "torch" not in loaded_by(("import sciml",))["import sciml"]


MISSPELT = [
    "model=pinn_hbj",
    "model=nope",
    "model=pinn_hbj optimizer.lrr=1",
    "model=pinn_hjb optimizer.lrr=1",
    "model=equino_rve1 scale=default network.widht=3 hydra.run.dir=/nowhere",
    "model=pinn_poisson2d trainer.max_step=3 problm.dim=2 solver.tol=1",
]


@pytest.mark.parametrize("line", MISSPELT)
def test_a_misspelt_word_is_told_at_once(line):
    code = "from sciml.cli import train; assert train.main({!r}) == 2"
    codes = {words: code.format(words.split()) for words in MISSPELT}
    assert not loaded_by(tuple(codes.values()))[codes[line]] & {"torch", "lightning"}


def test_public_names_exist():
    for name in sciml.__all__:
        assert getattr(sciml, name) is not None
    with pytest.raises(AttributeError, match="attribute load_pretraned"):
        sciml.load_pretraned  # noqa: B018


def test_imports_go_one_way():
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.fail("lint-imports is not installed: pip install -c constraints.txt -e '.[dev]'")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_room_is_under_the_import_rules():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    ruled = {
        room.strip().removeprefix("sciml.")
        for contract in contracts
        for layer in contract.get("layers", [])
        for room in layer.split("|")
    }
    # testing builds whole runs and may import every room
    assert set(ROOMS) - {"testing"} <= ruled


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == sciml.__version__


def test_every_folder_of_code_is_a_package():
    """One without `__init__.py` imports here, but is left out of what is installed."""
    folders = {file.parent for file in (ROOT / "sciml").rglob("*.py")}
    assert [str(f) for f in sorted(folders) if not (f / "__init__.py").exists()] == []


def test_datasets_is_no_package():
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_malicious_uploads_are_excluded():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    for version in ("2.6.2", "2.6.3", "2.6.5"):
        assert version not in named["lightning"]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert all(pinned[name] in spec for name, spec in named.items())


def test_no_metric_is_read_in_every_step():
    # Lightning converts what is logged with prog_bar=True to a number after each batch
    sources = {path: path.read_text() for path in Path("sciml").rglob("*.py")}
    found = [str(path) for path, text in sources.items() if "prog_bar=True)" in text]
    assert found == []


CLOSE = ("allclose", "assert_close", "assert_allclose", "isclose")


def without_a_limit(source: str) -> list[int]:
    """Return the lines that compare numbers without saying how far apart they may relatively be."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in CLOSE:
            named = {keyword.arg for keyword in node.keywords}  # None: those of a dictionary
            if not {"rtol", "rel_tol", None} & named and len(node.args) < 3:
                lines.append(node.lineno)
    return lines


def test_whoever_compares_numbers_says_how_close():
    # PyTorch's own rtol, 1e-5, overrules an atol of 1e-12
    assert without_a_limit("torch.allclose(a, b, atol=1e-12)\nmath.isclose(a, b)") == [1, 2]
    assert without_a_limit("np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)") == []
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "sciml").rglob("*.py")]
    found = {str(p.relative_to(ROOT)): without_a_limit(p.read_text()) for p in sources}
    assert {file: lines for file, lines in found.items() if lines} == {}


# --- sizes and names: a stranger finds a file, and reads it at one sitting -----------------------
FILES = {path: path.read_text() for path in sorted((ROOT / "sciml").rglob("*.py"))}
LENGTHS = {path: text.count("\n") for path, text in FILES.items()}
LONGEST, LARGEST_SHARE = 320, 0.20


def test_every_file_name_is_there_once():
    names = Counter(path.name for path in FILES if path.stem not in ("__init__", "__main__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_is_too_long():
    assert {path.name: n for path, n in LENGTHS.items() if n > LONGEST} == {}


def test_files_are_neither_crumbs_nor_tomes():
    lengths = [n for path, n in LENGTHS.items() if path.stem not in ("__init__", "__main__")]
    assert 100 <= statistics.median(lengths) <= 230


@pytest.mark.parametrize("room", ROOMS)
def test_no_part_of_a_room_outweighs_the_others(room):
    parts = Counter()
    for path, n in LENGTHS.items():
        place = path.relative_to(ROOT / "sciml").parts
        if place[0] == room:
            parts[place[1]] += n  # a file of the room, or a folder with all that is in it
    shares = {part: n / parts.total() for part, n in parts.items()}
    assert {part: share for part, share in shares.items() if share > LARGEST_SHARE} == {}


# Names of classes that have two meanings, and why that may be.
TWICE = {
    "Ball": "shapes in front of people (`sciml.pinn`), and domains of walks",
    "Box": "as Ball",
    "Polygon": "as Ball",
    "Heat": "on an interval, and in d dimensions; each under its own room's address",
    "LevenbergMarquardt": "optimizer and solver, each under its own room's address",
}


def test_every_public_class_has_a_name_of_its_own():
    homes = defaultdict(list)
    for path, text in FILES.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path.name)
    twice = {name: files for name, files in homes.items() if len(files) > 1}
    assert {name: files for name, files in twice.items() if name not in TWICE} == {}
