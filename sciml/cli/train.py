"""`python train.py ...` and `sciml train ...`: compose, check, hand over to Hydra.

Order of events: read the command line and find everything wrong with it; find the checkpoint to
continue from; see that the run folder can be written; only then let Hydra create the folder (or
the folders of a sweep) and run. A refused command line leaves nothing on the disk.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sciml.cli import paths
from sciml.cli.records import rank_watch, read_checkpoint, resume, run_folder
from sciml.errors import ConfigError, ConvergenceError, RunFailed, SciMLError, TrainingDiverged

EXAMPLES = """\
  python train.py model=pinn_hjb                                   # minutes on two CPU cores
  python train.py model=pinn_hjb problem.dim=1000 optimizer.lr=1e-3 seed=1
  python train.py -m model=pinn_hjb optimizer=adam,adamw seed=0,1  # one run per combination
  python train.py model=fno data.path=FILE                         # your own; --inspect shows it"""

# Options of Hydra that show or redirect configurations; such a call is Hydra's business alone.
HYDRA_ONLY = ("-c", "--cfg", "-i", "--info", "-hh", "--hydra-help", "-sc", "--shell-completion")
HYDRA_ONLY += ("-cn", "--config-name", "-cp", "--config-path", "-cd", "--config-dir", "--resolve")


def usage(folder: Path) -> str:
    """Return the text of `--help`: models, groups, keys, examples."""
    models = paths.options("model", folder)
    width = max(map(len, models), default=0)
    hidden = ("model", "hydra", "recipe", "size", "size_recipe")
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
            "  network.*, estimator.*, solver.*, adjoint.*, module.*, data.*, optimizer.*,",
            "  schedule.*, callbacks.*,",
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
    try:
        os.environ[paths.STAMP] = paths.run_stamp()
        if "--inspect" in words:
            return inspect_only(words)
        return launch(words, folder)
    except (TrainingDiverged, ConvergenceError, RunFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SciMLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; continue with ckpt_path=last", file=sys.stderr)
        return 130


def inspect_only(words: list[str]) -> int:
    """Show what a run on files would see, and do not train.

    Raises:
        ConfigError: Without data.path.
    """
    from sciml.cli.verbs import inspect

    data = [w for w in words if w.startswith("data.")]
    path = [w.partition("=")[2] for w in data if w.startswith("data.path=")]
    if not path:
        raise ConfigError("--inspect without data.path", "data.path=FILE", "Add the file")
    others = [w for w in data if not w.startswith("data.path=")]
    print(inspect.inspected(path[-1].strip("'\""), [w.removeprefix("data.") for w in others]))
    return 0


def program() -> list[str]:
    """Return what starts this program again, without the user's words: file, and verb if any."""
    verb = ["train"] if Path(sys.argv[0]).stem in ("sciml", "__main__") else []
    return [sys.argv[0], *verb]


def launch(words: list[str], folder: Path) -> int:
    """Check the command line and hand it to Hydra."""
    from sciml.cli.checks import own_files, rules
    from sciml.cli.targets import own_class, preflight
    from sciml.cli.typed import overrides, schema, typed_words

    schema.register()
    words = own_class.take(words)
    flags = [w for w in words if w.startswith("-")]
    multirun = "-m" in flags or "--multirun" in flags
    if any(flag.partition("=")[0] in HYDRA_ONLY for flag in flags):
        report(typed_words.refused(w for w in words if not w.startswith("-")))
        return hydra_run(overrides.full_names(words, folder), folder, lambda config: 0)
    keys = [w for w in words if not w.startswith("-")]
    line = overrides.read(keys, folder)
    if paths.by_lightning() and paths.is_worker():  # from now on, as imports take a while
        rank_watch.watch_parent(functools.partial(rank_watch.said, line.run_dir))
    findings = line.findings
    if line.sweeps and not multirun:
        findings.append(
            f"{' '.join(line.sweeps)} asks for several runs. Type -m before the other words to "
            "have them one after the other, or one value."
        )
    if line.config and not findings:
        own_files.refuse_unreadable(line.config)  # before the seconds of imports
    if line.config:
        findings += preflight.check(line.config) + rules.check(line.config)
        sweep = rules.resume_in_sweep(line.config, multirun=multirun)
        findings += [sweep] if sweep else []
    report(findings)
    from sciml.cli.runs import (
        build,
        job,  # seconds, for lines that run
    )

    if not multirun:
        job.quiet()
        build.rehearse(line.config, line.run_dir)
    keys, run_dir, found = line.overrides, line.run_dir, None
    wanted, overwrite = line.config["ckpt_path"], line.config["overwrite"]
    if not multirun:
        if not wanted and not overwrite and paths.restarted() and run_folder.content(run_dir):
            wanted, line.given = "last", True  # the same command, started again by its launcher
        if wanted:
            found = resume.find(wanted, run_dir, line.given)
            resume.same_training(found, line.config)
            if not line.given and found.run_dir is not None:
                run_dir = found.run_dir
            keys = [k for k in keys if not k.startswith(("ckpt_path=", "hydra.run.dir="))]
            keys += [f"ckpt_path={quoted(found.path)}", f"hydra.run.dir={quoted(run_dir)}"]
        elif not line.given:
            run_dir = fresh(run_dir)
        claimable(run_dir, found, overwrite)
    if paths.is_worker():
        keys.append("hydra/job_logging=worker")

    start = program()
    return hydra_run(
        [*flags, *keys], folder, lambda config: run_job(config, start, found, multirun)
    )


def fresh(run_dir: Path) -> Path:
    """Make the folder named after the present moment; after a later one if it is taken."""
    while run_dir.name == os.environ[paths.STAMP] and not paths.launched():
        try:
            run_dir.mkdir(parents=True)
        except FileExistsError:
            os.environ[paths.STAMP] = paths.run_stamp()
            run_dir = run_dir.with_name(os.environ[paths.STAMP])
        except OSError:
            break  # said by who looks at the folder next
        else:
            break
    return run_dir


def claimable(run_dir: Path, found: read_checkpoint.Checkpoint | None, overwrite: bool) -> None:
    """See that a run may have this folder; on ranks other than the first, rank 0 has seen to it.

    Raises:
        ConfigError: If it cannot be written, or holds another run.
    """
    if paths.is_worker():
        return
    here = resume.continues(found, run_dir)
    if here and overwrite:
        raise ConfigError(
            f"overwrite=true with a checkpoint of the run in {run_dir} itself",
            "one of the two",
            "Leave out overwrite=true to continue that run, or ckpt_path to replace it",
        )
    run_folder.writable(run_dir)
    if not here and not overwrite:
        run_folder.refuse_used(run_dir)


def hydra_run(words: list[str], folder: Path, job: Callable[[Any], int]) -> int:
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
    raise ConfigError(f"{len(findings)} problems in the command line:\n{listed}")


def quoted(path: Path) -> str:
    """Return a path as Hydra reads it back, whatever characters it holds."""
    text = str(Path(path).resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def run_job(
    config: Any, start: list[str], found: read_checkpoint.Checkpoint | None, multirun: bool
) -> int:
    """Run one job: alone in this process, or as its own program where a sweep meets DDP."""
    from hydra.core.hydra_config import HydraConfig

    from sciml.cli.checks import reading, rules
    from sciml.cli.runs import job
    from sciml.cli.targets import preflight
    from sciml.cli.typed import replaced_choices

    settings = HydraConfig.get()
    run_dir = Path(settings.runtime.output_dir)
    words = list(settings.overrides.task)
    user = replaced_choices.settle(config, words)
    if multirun:
        report(preflight.check(user) + rules.check(user))
        if user["ckpt_path"]:
            found = resume.find(user["ckpt_path"], run_dir, True)
            resume.same_training(found, user)
        claimable(run_dir, found, user["overwrite"])
        if reading.several_processes(user) and "LOCAL_RANK" not in os.environ:
            # Lightning's workers repeat the command line: they must not repeat the whole sweep.
            here = [*words, f"hydra.run.dir={quoted(run_dir)}"]
            return subprocess.run([sys.executable, *module_or_file(start), *here]).returncode
    sys.argv = [*start, *words]
    command = " ".join(map(shlex.quote, words))
    return job.train(user, run_dir, command, found, sweep=multirun)


def module_or_file(start: list[str]) -> list[str]:
    """Return what follows `python` to start this program again."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["-m", spec.name, *start[1:]] if spec else [os.path.abspath(start[0]), *start[1:]]
