"""The package of CONTRIBUTING.md, written as it stands, trains, resumes, exports and loads."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sciml
from sciml import plugins
from sciml.cli import paths
from sciml.cli.targets import resolving
from sciml.errors import ConfigError, PretrainedError
from sciml.pretrained.classes import class_table
from sciml.testing import runs

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r'```\w+ title="(.*?)"\n(.*?)```', re.DOTALL)
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLUGIN = "plugins=mylab"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder that holds the package."""
    home = tmp_path_factory.mktemp("stranger")
    for name, code in FILE.findall(TEXT):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(code, encoding="utf-8")
    return home


def train(lab, *words, code=0):
    """Run a command line in a process of its own, as a stranger would."""
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *words],
        cwd=lab,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def here(lab, monkeypatch):
    """The same package in this process."""
    monkeypatch.syspath_prepend(lab)
    monkeypatch.setattr(plugins, "_typed", {})
    yield lab
    for name in [n for n in sys.modules if n.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def test_lines_of_the_recipes_are_counted_right():
    for name, code in FILE.findall(TEXT):
        if said := re.search(rf"{Path(name).name} +an? .*: (\d+) lines", TEXT):
            assert int(said[1]) == len([line for line in code.splitlines() if line.strip()]), name


def test_a_pde_and_an_optimizer_of_a_stranger_train_and_load(lab):
    train(lab, PLUGIN, "model=pinn_disk", "optimizer=signs", "trainer.max_steps=30",
          "optimizer.lr=3e-3", "network.width=16", "hydra.run.dir=one")  # fmt: skip
    result = json.loads((lab / "one/metrics.json").read_text())
    assert result["status"] == "completed" and result["metrics"]["test/rel_l2"] < 1
    spec = json.loads((lab / "one/pretrained/model.json").read_text())
    assert spec["arguments"]["problem"]["class"] == "mylab:Disk"
    program = (
        "import sciml, torch; from sciml import plugins; plugins.use('mylab');"
        "m = sciml.load_pretrained('one');"
        "print(m.predict(torch.zeros(1, 2))['value'].item())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=lab, capture_output=True, text=True)
    assert abs(float(done.stdout) - 1) < 0.5, done.stderr


def test_a_folder_that_names_a_package_is_refused_where_that_is_no_plugin(lab):
    train(lab, PLUGIN, "model=pinn_disk", "trainer.max_steps=2", "network.width=8",
          "hydra.run.dir=two")  # fmt: skip
    with pytest.raises(PretrainedError, match=r"mylab is no plug-in here.*plugins\.use\('mylab'\)"):
        sciml.load_pretrained(lab / "two")


def test_a_method_of_a_stranger_resumes_bit_for_bit(here, tmp_path):
    from sciml.testing import contract

    words = [PLUGIN, "model=line_fit"]
    contract.builds(words, tmp_path)
    contract.gradient_reaches_every_parameter(words, tmp_path)
    contract.resumes_bit_identical(words, tmp_path)
    contract.predicts_the_same_after_loading(words, tmp_path / "loads")
    assert contract.runs_or_is_refused(words, tmp_path, "kfac") is None


@pytest.mark.slow  # the whole contract: half a minute
def test_a_stranger_inherits_the_contract(lab):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mylab.py"],
        cwd=lab,
        env={**os.environ, "PYTHONPATH": str(lab), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout


def test_plugins_are_listed_and_only_theirs_is_allowed(here, monkeypatch):
    assert "pinn_disk" not in paths.options("model")
    with pytest.raises(ConfigError, match="outside the allowed packages"):
        resolving.resolve("mylab.Disk")
    monkeypatch.setenv(plugins.VARIABLE, "mylab")
    assert "pinn_disk" in paths.options("model") and "signs" in paths.options("optimizer")
    assert paths.describe("model", "pinn_disk").startswith("Poisson's equation")
    assert resolving.resolve("mylab.Disk").__name__ == "Disk"
    with pytest.raises(ConfigError, match="not defined in an allowed package"):
        resolving.resolve("mylab.signs.torch")


def test_mistakes_in_a_plugins_keys_are_answered_like_ours(here):
    with pytest.raises(ConfigError, match=r"optimizer\.lrr.*optimizer\.lr"):
        runs.compose([PLUGIN, "model=pinn_disk", "optimizer=signs", "optimizer.lrr=1"])
    with pytest.raises(ConfigError, match="Did you mean 'pinn_disk'"):
        runs.compose([PLUGIN, "model=pinn_dsik"])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("plugins=mylap", "there is no package mylap"),
        ("plugins=os", "a package beside sciml"),
        ("plugins=sciml", "a package beside sciml"),
        ("plugins=mylab.pde", "names of packages"),
    ],
)
def test_what_is_no_plugin_is_refused(here, word, said):
    with pytest.raises(ConfigError, match=said):
        runs.compose([word, "model=pinn_poisson"])


BROKEN = {
    "raises": ('raise RuntimeError("the lab is closed")', "RuntimeError: the lab is closed"),
    "ends": ("raise SystemExit(3)", "SystemExit: 3"),
    "no Python": ("def f(:\n", "SyntaxError"),
    "an attribute": ("import os\nos.nothing", "AttributeError"),
    "another package": ("import nothing_at_all", "no module named nothing_at_all"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("named", ["typed", "installed"])
def test_a_package_that_fails_when_imported_is_one_message(kind, named, tmp_path, monkeypatch):
    code, said = BROKEN[kind]
    name = f"lab_{kind.replace(' ', '_')}_{named}"
    (tmp_path / name / "configs/problem").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text(code)
    (tmp_path / name / "configs/problem/ours.yaml").write_text(f"_target_: {name}.Disk\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_typed", {})
    words = ["model=pinn_poisson2d", "problem=ours"]
    if named == "typed":
        words = [f"plugins=[{name}]", *words]
    else:
        monkeypatch.setattr(plugins, "_installed", lambda: (name,))
    with pytest.raises(ConfigError, match=f"{name}.*{said}"):
        runs.compose(words)
    if "module" not in said:
        with pytest.raises(ConfigError, match=said):
            class_table._from_plugin("problem", f"{name}:Disk")


def test_a_name_that_we_have_is_refused(here, tmp_path, monkeypatch):
    (tmp_path / "otherlab/configs/model").mkdir(parents=True)
    (tmp_path / "otherlab/__init__.py").touch()
    (tmp_path / "otherlab/configs/model/pinn_poisson.yaml").write_text("model: pinn_poisson\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"has the name of .*pinn_poisson\.yaml\. Rename it"):
        runs.compose(["plugins=otherlab", "model=pinn_poisson"])
