"""A folder of configurations with a toy model beside the real ones."""

import copy
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra._internal.config_repository import ConfigRepository

from sciml.cli import paths
from sciml.cli.targets import resolving
from sciml.cli.train import main

HERE = Path(__file__).resolve().parent

FILES = {
    "model/toy.yaml": """\
# @package _global_
# python train.py model=toy
# A line fitted to noisy points
defaults:
  - override /problem: toy
  - override /network: toy
  - override /module: toy
  - override /data: toy
  - override /callbacks: toy
  - override /schedule: exponential
model: toy
schedule: {final: 0.5}
trainer: {max_steps: 12, log_every_n_steps: 1, val_check_interval: null}
""",
    "problem/toy.yaml": "_target_: toy.Problem\ndim: 3\n",
    "problem/fourth.yaml": "_target_: toy.FourthOrder\ndim: 3\n",
    "network/toy.yaml": "_target_: toy.Network\n",
    "module/toy.yaml": "_target_: toy.Module\ninputs: [x]\n",
    "data/toy.yaml": "_target_: toy.Data\npoints: 8\n",
    "callbacks/toy.yaml": """\
random_streams: {_target_: sciml.callbacks.random_streams.RandomStreams}
record: {_target_: sciml.callbacks.run_record.RunRecord}
checkpoint: {_target_: sciml.callbacks.checkpoint.RunCheckpoint, every_steps: 4, monitor: null}
""",
    "size/toy_paper.yaml": "# @package _global_\nproblem: {dim: 7}\ntrainer: {max_steps: 9}\n",
    "recipe/toy_sgd.yaml": "# @package _global_\noptimizer: {lr: 0.125}\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The real configurations and the toy's, whose classes are allowed here."""
    folder = tmp_path / "configs"
    shutil.copytree(paths.config_dir(), folder)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(resolving, "LIBRARIES", (*resolving.LIBRARIES, "toy"))
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Return a function that runs the command line in an empty folder: (code, output, errors)."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    def call(*words: str) -> tuple[int, str, str]:
        code = main(list(words), folder=folder)
        out, err = capsys.readouterr()
        return code, out, err

    call.work = Path(work)
    return call


@pytest.fixture
def program(run, folder):
    """Return a function that starts the same as a process of its own."""

    def start(*words: str, launcher: Sequence[str] = (), **more) -> subprocess.Popen:
        environ = {**os.environ, "TOY_CONFIGS": str(folder), "OMP_NUM_THREADS": "1"}
        environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
        command = [sys.executable, *launcher, str(HERE / "toy_program.py"), *words]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        # A shell starts background jobs, and with them a whole test run, with Ctrl-C ignored;
        # nohup does the same with the end of its terminal.
        usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
        before = {number: signal.signal(number, does) for number, does in usual.items()}
        try:
            return subprocess.Popen(command, cwd=run.work, env=environ, **streams, **more)
        finally:
            for number, does in before.items():
                signal.signal(number, does)

    return start


@pytest.fixture(scope="module")
def files_read_once():
    """Let Hydra read each file of the configurations once: a third of what composing takes.

    Only for tests whose files stay as they are.
    """
    kept, load = {}, ConfigRepository.load_config

    def once(self, config_path):
        key = (config_path, *(source.path for source in self.sources))
        if key not in kept:
            kept[key] = load(self, config_path)
        return copy.deepcopy(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", once)
        yield
