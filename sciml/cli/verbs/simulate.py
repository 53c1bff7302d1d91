"""`sciml simulate`: simulations with a trained part in their loop, one file each."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path

from sciml.cli.verbs.predict import show_warnings
from sciml.errors import ConfigError, InvalidArgument, SciMLError, did_you_mean
from sciml.simulate import SIMULATIONS
from sciml.simulate.simulation import Simulation, described, read

OUT = "out"  # where files go; of every simulation, whatever its own settings are


def main(argv: Sequence[str]) -> int:
    """Run the verb.

    Args:
        argv: Arguments after `sciml simulate`.

    Returns:
        0 done, 1 the simulation ended before its end, 2 wrong input.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    name, *words = argv
    with show_warnings("sciml simulate"):
        try:
            cls = simulation(name)
            if any(word in ("-h", "--help", "help") for word in words):
                print(help_of(name, cls))
                return 0
            return _run(name, cls, words)
        except BrokenPipeError:  # `| head`: said by sciml.cli.main
            raise
        except (SciMLError, OSError) as error:
            print(f"sciml simulate: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("sciml simulate: interrupted; resume=true goes on", file=sys.stderr)
            return 130


def _run(name: str, cls: type[Simulation], words: Sequence[str]) -> int:
    chosen = [word.partition("=")[2] for word in words if word.startswith(f"{OUT}=")]
    if len(chosen) > 1 or "" in chosen:
        raise ConfigError(f"{OUT}={' and '.join(chosen)}", "one folder")
    wanted = read(cls, [word for word in words if not word.startswith(f"{OUT}=")])
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]  # two may start in one second
    folder = Path(chosen[0]) if chosen else Path("runs") / f"simulate_{name}" / stamp
    resumed = bool(getattr(wanted, "resume", False))
    if folder.exists() and not folder.is_dir():
        raise InvalidArgument(f"{OUT}={folder}, which is a file", "a folder")
    if folder.is_dir() and any(folder.iterdir()) and not resumed:
        raise InvalidArgument(
            f"{OUT}={folder}, which holds files",
            "a new or an empty folder",
            "Type resume=true to go on from what it holds"
            if hasattr(wanted, "resume")
            else f"Type another {OUT}=FOLDER",
        )
    made = [place for place in (folder / "frames", folder, *folder.parents) if not place.exists()]
    try:
        metrics = wanted.run(folder, print)
    except SciMLError:
        for place in made:  # those that are empty: what was refused leaves nothing behind
            with contextlib.suppress(OSError):
                place.rmdir()
        raise
    width = max(map(len, metrics), default=0)
    for key, value in metrics.items():
        print(f"  {key:<{width}}  {value:.6g}")
    print(f"files: {folder}")
    return 0 if metrics.get("complete", 1.0) >= 1.0 else 1


def simulation(name: str) -> type[Simulation]:
    """Return the class of a simulation.

    Raises:
        ConfigError: For an unknown name.
    """
    if name not in SIMULATIONS:
        raise ConfigError(f"'{name}' is not a simulation", hint=did_you_mean(name, SIMULATIONS))
    module, _, attribute = SIMULATIONS[name][0].partition(":")
    return getattr(import_module(module), attribute)


def usage() -> str:
    """Return the text of `sciml simulate --help`."""
    width = max(map(len, SIMULATIONS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in SIMULATIONS.items()]
    head = ["usage: sciml simulate NAME key=value ...", ""]
    return "\n".join([*head, *lines, "", "`sciml simulate NAME --help` lists the settings."])


def help_of(name: str, cls: type[Simulation]) -> str:
    """Return the text of `sciml simulate NAME --help`."""
    text = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "")
    out = f"  {OUT}=FOLDER  where files go; runs/simulate_{name}/STAMP without it"
    return f"{text}\n\nsettings:\n{described(cls)}\n{out}"
