"""`python train.py ...` and `sciml train ...`: compose, check, build, train, evaluate.

Order of events: read the command line and find everything wrong with it; find the checkpoint to
continue from; see that the run folder can be written; only then let Hydra create the folder (or
the folders of a sweep) and run. A refused command line leaves nothing on the disk.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sciml.cli import paths
from sciml.errors import (
    CheckpointError,
    ConfigError,
    ConvergenceError,
    SciMLError,
    TrainingDiverged,
)

log = logging.getLogger("sciml")

EXAMPLES = """\
  python train.py model=pinn_hjb                                   # minutes on two CPU cores
  python train.py model=pinn_hjb problem.dim=1000 optimizer.lr=1e-3 seed=1
  python train.py -m model=pinn_hjb optimizer=adam,adamw seed=0,1  # one run per combination"""

# Options of Hydra that show or redirect configurations; such a call is Hydra's business alone.
HYDRA_ONLY = ("-c", "--cfg", "-i", "--info", "-hh", "--hydra-help", "-s", "--shell-completion")
HYDRA_ONLY += ("-cn", "--config-name", "-cp", "--config-path", "-cd", "--config-dir", "--resolve")


def usage(folder: Path) -> str:
    """Return the text of `--help`: models, groups, keys, examples."""
    models = paths.options("model", folder)
    width = max(map(len, models), default=0)
    hidden = ("model", "hydra", "recipe", "size")
    others = [g for g in paths.groups(folder) if g not in hidden]
    group_width = max(map(len, others), default=0)
    return "\n".join(
        [
            "usage: python train.py model=NAME [group=option ...] [key=value ...]",
            "",
            "Models:",
            *(f"  {m:<{width}}  {paths.describe('model', m, folder)}".rstrip() for m in models),
            "",
            "Groups (group=option):",
            *(f"  {g:<{group_width}}  {', '.join(paths.options(g, folder))}" for g in others),
            "",
            "Keys (key=value):",
            "  seed, ckpt_path (last, a file or a run folder), hydra.run.dir, problem.*,",
            "  network.*, estimator.*, module.*, data.*, optimizer.*, schedule.*, callbacks.*,",
            "  trainer.* (Lightning's own names). `--cfg job` after a command prints their values.",
            "",
            "Examples:",
            EXAMPLES,
        ]
    )


def main(argv: Sequence[str] | None = None, *, folder: Path | None = None) -> int:
    """Train as the command line says and return the exit code.

    Args:
        argv: Arguments after the program's name; those of the process by default.
        folder: The folder of configurations; the installed one by default.

    Returns:
        0 done, 1 the run failed, 2 the input cannot be used, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    folder = (folder or paths.config_dir()).resolve()
    if "--help" in words or "-h" in words:
        print(usage(folder))
        return 0
    command = [sys.argv[0], *(sys.argv[1:] if argv is None else command_of(words))]
    try:
        os.environ[paths.STAMP] = paths.run_stamp()
        return launch(words, folder, command)
    except (TrainingDiverged, ConvergenceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SciMLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; continue with ckpt_path=last", file=sys.stderr)
        return 130


def command_of(words: list[str]) -> list[str]:
    """Return the arguments that make this program do the same again, verb included."""
    verb = ["train"] if Path(sys.argv[0]).stem in ("sciml", "__main__") else []
    return [*verb, *words]


def launch(words: list[str], folder: Path, command: list[str]) -> int:
    """Check the command line and hand it to Hydra."""
    from sciml.cli import overrides, preflight, resume, rules, schema

    schema.register()
    flags = [w for w in words if w.startswith("-")]
    multirun = "-m" in flags or "--multirun" in flags
    if any(flag in HYDRA_ONLY for flag in flags):
        return hydra_run(words, folder, lambda config: 0)
    keys = [w for w in words if not w.startswith("-")]
    line = overrides.read(keys, folder)
    findings = line.findings
    if line.config:
        findings += preflight.check(line.config) + rules.check(line.config)
        sweep = rules.resume_in_sweep(line.config, multirun=multirun)
        findings += [sweep] if sweep else []
    report(findings)

    keys, run_dir, found = line.overrides, line.run_dir, None
    if line.config["ckpt_path"] and not multirun:
        found = resume.find(line.config["ckpt_path"], run_dir, line.given)
        same_training(found, line.config)
        if not line.given and found.run_dir is not None:
            run_dir = found.run_dir
        keys = [k for k in keys if not k.startswith(("ckpt_path=", "hydra.run.dir="))]
        keys += [f"ckpt_path={quoted(found.path)}", f"hydra.run.dir={quoted(run_dir)}"]
    if not multirun:
        writable(run_dir)
    if paths.is_worker():
        keys.append("hydra/job_logging=worker")

    def job(config: Any) -> int:
        return run_job(config, command[: -len(words)] if words else command, found, multirun)

    return hydra_run([*flags, *keys], folder, job)


def hydra_run(words: list[str], folder: Path, job: Any) -> int:
    """Run `job` under Hydra with these arguments and return the worst exit code of its runs."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    codes: list[int] = []
    errors: list[SciMLError] = []

    def guarded(config: Any) -> None:
        # Hydra would announce an error of the job itself before passing it on.
        try:
            codes.append(job(config))
        except SciMLError as error:
            errors.append(error)

    before = sys.argv
    sys.argv = [before[0], *words]
    # Hydra would print its errors itself and exit with 1; this makes it raise them.
    debug, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"
    try:
        decorate = hydra.main(version_base="1.3", config_path=str(folder), config_name="train")
        decorate(guarded)()
    except (HydraException, OmegaConfBaseException, OSError) as error:
        if debug == "1":
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ConfigError(lines[0] if lines else type(error).__name__) from error
    finally:
        sys.argv = before
        os.environ.pop("HYDRA_FULL_ERROR")
        if debug is not None:
            os.environ["HYDRA_FULL_ERROR"] = debug
    if errors:
        raise errors[0]
    return max(codes, default=0)


def report(findings: list[str]) -> None:
    """Raise one error that holds all findings."""
    if not findings:
        return
    if len(findings) == 1:
        raise ConfigError(findings[0])
    listed = "\n".join(f"  {i}. {text}" for i, text in enumerate(findings, 1))
    raise ConfigError(f"{len(findings)} things to mend:\n{listed}")


def quoted(path: Path) -> str:
    """Return a path as Hydra reads it back, whatever characters it holds."""
    text = str(Path(path).resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def writable(run_dir: Path) -> None:
    """Create the run folder if need be and see that files can be made in it.

    Raises:
        ConfigError: If not. A folder without write permission is taken at its word even if the
            user is root, for whom the system would let it pass.
    """
    folder = next(p for p in (run_dir.absolute(), *run_dir.absolute().parents) if p.exists())
    hint = "Name a folder you may write to with hydra.run.dir=FOLDER"
    try:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file")
        if not folder.stat().st_mode & 0o222:
            raise PermissionError(f"{folder} is read-only")
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write the run folder {run_dir}: {error}", hint=hint) from error


def same_training(found: Any, config: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another problem or network.

    Raises:
        CheckpointError: Naming what differs.
    """
    from sciml.cli import resume

    if not found.config:
        raise CheckpointError(f"{found.path} was not written by this program")
    differ = resume.differences(found.config, config)
    if differ:
        raise CheckpointError(
            f"{found.path} belongs to another run: {'; '.join(differ[:6])}",
            "the command line it was started with, and ckpt_path=last",
            f"The first line of {found.path.parent.parent / 'config.yaml'} has it",
        )


def run_job(config: Any, program: list[str], found: Any, multirun: bool) -> int:
    """Run one job: alone in this process, or as its own program where a sweep meets DDP."""
    from hydra.core.hydra_config import HydraConfig

    from sciml.cli import overrides, preflight, rules

    settings = HydraConfig.get()
    run_dir = Path(settings.runtime.output_dir)
    words = list(settings.overrides.task)
    user = overrides.settle(overrides.plain(config), words)
    if multirun:
        report(preflight.check(user) + rules.check(user))
        if rules.several_processes(user) and "LOCAL_RANK" not in os.environ:
            # Lightning's workers repeat the command line: they must not repeat the whole sweep.
            here = [*words, f"hydra.run.dir={quoted(run_dir)}"]
            return subprocess.run([sys.executable, *module_or_file(program), *here]).returncode
    sys.argv = [*program, *words]
    return train(user, run_dir, " ".join(map(shlex.quote, words)), found)


def module_or_file(program: list[str]) -> list[str]:
    """Return what follows `python` to start this program again."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["-m", spec.name, *program[1:]] if spec else [os.path.abspath(program[0]), *program[1:]]


def train(config: Mapping[str, Any], run_dir: Path, command: str, found: Any = None) -> int:
    """Build, fit and test one run, and leave its record in the run folder.

    Args:
        config: The resolved and checked configuration.
        run_dir: The run folder.
        command: The user's arguments, for the record.
        found: The checkpoint to continue from, or None.

    Returns:
        0.

    Raises:
        SciMLError: What is wrong with the input, or why training stopped.
        KeyboardInterrupt: After Ctrl-C; the record says so.
    """
    import lightning.pytorch as pl
    import torch

    from sciml.callbacks import csv_log
    from sciml.cli.build import build

    quiet()
    torch.set_float32_matmul_precision(config["matmul_precision"])
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    try:
        run = build(config, run_dir)
    except SciMLError:
        if found is None:
            discard(run_dir)
        raise
    if not paths.is_worker():
        if found is None:
            clear(run_dir)
        write_config(config, run_dir, command)
    log.info("%s in %s", config["model"], run_dir)
    if found is not None:
        for text in found.warnings:
            log.warning("%s", text)
        log.info("continuing %s at step %d", found.path, found.step)
        if not paths.is_worker():
            source = (found.run_dir or run_dir) / "metrics.csv"
            csv_log.rewind(run_dir / "metrics.csv", found.step, source)
    checkpoint = str(found.path) if found is not None else None
    try:
        run.trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        run.trainer.test(run.module, datamodule=run.data, verbose=False)
    except SystemExit:
        # Lightning answers Ctrl-C by leaving with code 1 and ignoring further ones.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
    for record in (c for c in run.trainer.callbacks if hasattr(c, "finish")):
        record.finish("completed")
        log.info("%s", record.table())
    return 0


def discard(run_dir: Path) -> None:
    """Remove the run folder of a run that was refused, if there is nothing but its log in it."""
    if {file.name for file in run_dir.iterdir()} <= {"run.log"}:
        (run_dir / "run.log").unlink(missing_ok=True)
        run_dir.rmdir()


def clear(run_dir: Path) -> None:
    """Remove what an earlier run left in the folder that a new one would take for its own.

    Its metrics would precede the new ones, and `ckpt_path=last` could fall back to its checkpoint.
    """
    old = [run_dir / "metrics.csv", *(run_dir / "checkpoints").glob("*.ckpt")]
    old = [file for file in old if file.exists()]
    if old:
        log.warning("replacing the run in %s (ckpt_path=last would continue it)", run_dir)
    for file in old:
        file.unlink()


def write_config(config: Mapping[str, Any], run_dir: Path, command: str) -> None:
    """Write `config.yaml`: the command on the first line, then every resolved value."""
    from omegaconf import OmegaConf

    text = f"# python train.py {command}\n" + OmegaConf.to_yaml(OmegaConf.create(dict(config)))
    temporary = run_dir / f".config.yaml.{os.getpid()}"
    temporary.write_text(text)
    os.replace(temporary, run_dir / "config.yaml")


def quiet() -> None:
    """Keep Lightning's advice about hardware and loaders out of the user's terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    for text in (
        ".*does not have many workers.*",
        ".*Trying to infer the `batch_size`.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # modules join ranks themselves
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*Starting from v1.9.0, `tensorboardX`.*",
        ".*isinstance.treespec, LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=text)
