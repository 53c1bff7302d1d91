"""Command lines changed at random: accepted, or refused by one message; never anything else.

A line is drawn from a seed, so a case that fails can be run again by its number. It is read,
checked and its parts are constructed, all that comes before a run folder is touched.
"""

import random
import time
from pathlib import Path

import pytest

from sciml.cli import paths
from sciml.cli.checks import rules
from sciml.cli.runs import build
from sciml.cli.targets import preflight
from sciml.cli.train import report
from sciml.cli.typed import overrides, schema
from sciml.errors import SciMLError

FEW, MANY = 12, 2000
SLOWEST = 30.0  # seconds that a case may take
# Their data are constructed at once.
BUILT = ("pinn_hjb", "pinn_poisson2d", "pinn_poisson", "pinn_wave", "wos_poisson2d")
VALUES = (
    "null",
    "-1",
    "0",
    "1",
    "2",
    "3.5",
    "nan",
    "-inf",
    "1e400",
    "999999999999",
    "1000000",
    "true",
    "''",
    "x",
    "os.system",
    "a" * 300,
    "[]",
    "[1,2]",
    "[[1],[x]]",
    "{}",
    "{a: 1}",
    "{_target_: os.system}",
    "{_target_: sciml.optim.kronecker.kfac.KFAC}",
    "{_target_: sciml.cli.records.read_checkpoint.read, _args_: [x]}",
    "${seed}",
    "${nope}",
    "${optimizer}",
    "${oc.env:HOME}",
    "${oc.env:NOPE}",
    "${hydra:runtime.cwd}",
    "${oc.decode:'['}",
    "interval(0,1)",
    "range(3)",
    "range(0,1000000000)",
    "glob(*)",
    "choice(1,2)",
    "sort(3,1)",
    "1,2",
    "a=b",
    "../x",
    '"\\0"',
    "é漢",
)
TARGETS = (
    "os.system",
    "builtins.eval",
    "sciml.cli.records.read_checkpoint.read",
    "sciml.cli.main.main",
    "sciml.solvers.linear_solve",
    "sciml.optim.KFAC",
    "sciml.physics.HJBLQG",
    "sciml.networks.MLP",
    "sciml.modules.SDGDPINN",
    "sciml.solvers.nonlinear.fixed_point.Anderson",
    "lightning.fabric.utilities.cloud_io._load",
    "lightning.pytorch.LightningModule.load_from_checkpoint",
    "lightning.pytorch.callbacks.LambdaCallback",
    "lightning.pytorch.demos.boring_classes.BoringModel",
    "torch.optim.swa_utils.update_bn",
    "torch.load",
    "hydra.utils.instantiate",
    "hydra._internal.instantiate._instantiate2.instantiate",
)
KEYS = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_", "nope", "a.b", "solver.rtol")
HYDRA = (
    "hydra.launcher._target_",
    "hydra.sweeper._target_",
    "hydra.callbacks.x._target_",
    "hydra.job_logging.handlers.file.()",
    "hydra.job_logging.root.level",
    "hydra.run.dir",
    "hydra.searchpath",
    "hydra.job.env_set.PATH",
    "hydra/launcher",
)
ROOTS = ("seed", "ckpt_path", "matmul_precision", "reference", "model", "scale", "debug", "nope")


@pytest.fixture(scope="module")
def ready(files_read_once):
    """Return the folder of configurations."""
    schema.register()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(paths.STAMP, "now")
        yield paths.config_dir().resolve()


def line(number, folder, leaves):
    """Return the words of a case."""
    draw = random.Random(number)
    models = paths.options("model", folder)
    model = draw.choice(BUILT) if draw.random() < 0.6 else draw.choice(models)
    groups = [g for g in paths.groups(folder) if g not in ("hydra", "model")]
    words = [f"model={model}"]
    for _ in range(draw.choice((1, 1, 2, 3))):
        sign = draw.choice(("", "", "", "", "+", "++", "~"))
        kind = draw.randrange(10)
        if kind < 2:
            group = draw.choice(groups)
            words.append(f"{sign}{group}={draw.choice(paths.options(group, folder))}")
        elif kind == 2:
            words.append(f"{sign}{draw.choice(groups)}={draw.choice(VALUES)}")
        elif kind < 6:
            words.append(f"{sign}{draw.choice(leaves)}={draw.choice(VALUES)}")
        elif kind == 6:
            place = draw.choice((*groups, "adjoint.linear", "callbacks.x", "trainer.strategy"))
            words.append(f"{sign}{place}._target_={draw.choice(TARGETS)}")
        elif kind == 7:
            words.append(f"{sign}{draw.choice(groups)}.{draw.choice(KEYS)}={draw.choice(VALUES)}")
        elif kind == 8:
            words.append(f"{sign}{draw.choice(HYDRA)}={draw.choice(VALUES + TARGETS)}")
        else:
            words.append(f"{sign}{draw.choice(ROOTS)}={draw.choice(VALUES)}")
    if draw.random() < 0.05:
        words[draw.randrange(len(words))] = draw.choice(("x", "=", "a==b", "[", "~", "++", "@=1"))
    return words


def check(words, folder):
    """Do with a line what comes before its run folder."""
    found = overrides.read(words, folder)
    findings = found.findings
    if found.config:
        findings = findings + preflight.check(found.config) + rules.check(found.config)
    report(findings)
    build.rehearse(found.config, Path("nowhere"))
    if found.config["model"] in BUILT:
        build.build(found.config, Path("nowhere"))


def tried(numbers, folder):
    """Return what went wrong, by the number of the case and its line."""
    wrong = {}
    leaves = all_leaves(folder)
    for number in numbers:
        words = line(number, folder, leaves)
        start = time.perf_counter()
        try:
            check(words, folder)
        except SciMLError as error:
            if len(str(error)) > 5000:
                wrong[number] = (words, "a message of pages")
        except Exception as error:
            wrong[number] = (words, repr(error)[:300])
        if time.perf_counter() - start > SLOWEST:
            wrong[number] = (words, "too slow")
    return wrong


def all_leaves(folder):
    """Return the keys that some lines have."""
    found = set()
    for words in (["model=pinn_poisson2d", "optimizer=kfac"], ["model=wos_poisson2d"]):
        config = overrides.read(words, folder).config
        found |= {key for key, _ in rules.values.leaves(config) if not key.endswith("_target_")}
    return sorted(found)


@pytest.fixture
def no_code(monkeypatch):
    """Fail if anything that runs commands is called."""

    def called(*arguments, **more):
        raise AssertionError("code ran")

    for name in ("os.system", "os.popen", "torch.load"):
        monkeypatch.setattr(name, called)


@pytest.mark.filterwarnings("ignore")
def test_a_few(ready, no_code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tried(range(FEW), ready) == {}
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_classes_of_another_kind(ready, no_code):
    """Cases in which a rule looked into a class that cannot stand there."""
    assert tried((589, 638, 1189), ready) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(10))
def test_many(part, ready, no_code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tried(range(FEW + part, MANY, 10), ready) == {}
    assert not list(tmp_path.iterdir())
