"""The `sciml` command: a table of verbs, each imported only when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from sciml import __version__
from sciml.cli.memory import beyond_memory
from sciml.errors import ConfigError, SciMLError, did_you_mean

# verb -> (function, one line of help). A function takes the arguments after the verb and returns
# the exit code. Verbs that only evaluate stay free of lightning and hydra.
VERBS: dict[str, tuple[str, str]] = {
    "train": ("sciml.cli.train:main", "train, evaluate, plot and save: sciml train model=pinn_hjb"),
    "inspect": ("sciml.cli.verbs.inspect:main", "what is recognised in a file of your own fields"),
    "list": ("sciml.cli.verbs.listing:main", "models, optimizers and pretrained networks"),
    "predict": (
        "sciml.cli.verbs.predict:main",
        "evaluate a pretrained network on a file of points",
    ),
    "export-data": ("sciml.cli.verbs.export_data:main", "a generated data set as an HDF5 file"),
    "simulate": ("sciml.cli.verbs.simulate:main", "a trained model inside a solver: FE2"),
    "verify": (
        "sciml.cli.verification.verify:main",
        "how wrong a trained elliptic model is, with error bars",
    ),
}


def usage() -> str:
    """Return the text of `sciml --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "usage: sciml VERB ...",
            "",
            *lines,
            "",
            "`sciml VERB --help` says more.  `sciml --version` prints the version.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 failed, 2 wrong input.

    Args:
        argv: Arguments after the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"sciml {__version__}")
        return 0
    verb, *rest = arguments
    try:
        if verb not in VERBS:
            raise ConfigError(f"'{verb}' is not a verb of sciml", hint=did_you_mean(verb, VERBS))
        module, _, function = VERBS[verb][0].partition(":")
        code = getattr(import_module(module), function)(rest)
        sys.stdout.flush()
        return code
    except SciMLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:
        if not beyond_memory(error):
            raise
        print(f"error: out of memory: {str(error)[:200] or 'a large array'}", file=sys.stderr)
        print("Type smaller sizes (grid=64, ...)", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `sciml list | head`: what is left has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
