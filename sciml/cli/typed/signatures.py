"""Arguments of a constructor and their annotations, read from its source without importing it.

Whether a key exists, and whether a value can be one of its kind, is asked before anything else, and
importing what a run needs costs seconds. What the text does not settle (decorators, names made at
run time, annotations of other types than numbers and words) is left to the import.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

Names = tuple[frozenset[str], bool]  # the names, and whether any other is taken too
Written = tuple[dict[str, str], bool]  # the same, with the text of every annotation
STEPS = 8  # imports and base classes to follow
# Annotations that no word fits, and what they are called.
NUMBERS = {"int": "a whole number", "float": "a number", "bool": "True or False"}
NUMBERS |= {f"{kind}[int]": "a list of whole numbers" for kind in ("Sequence", "list")}
NUMBERS |= {f"{kind}[float]": "a list of numbers" for kind in ("Sequence", "list")}
NUMBERS |= {"tuple[int, ...]": "a list of whole numbers", "tuple[float, ...]": "a list of numbers"}


def named_arguments(target: str) -> Names | None:
    """Return what a class takes by name, and whether it takes any other name too.

    Args:
        target: Dotted path, e.g. `torch.optim.Adam`.

    Returns:
        None where the source does not say.
    """
    found = _written(target)
    return found and (frozenset(found[0]), found[1])


def misfit(target: str, name: str, value: Any) -> tuple[str, tuple[str, ...]] | None:
    """Return what an argument takes, where a value is certainly none of it.

    Args:
        target: Dotted path of a class.
        name: Of the argument.
        value: What was typed for it.

    Returns:
        What was expected, and the words to choose from, if any. None where the value may do:
        numbers are not told apart here, and annotations of other types are not looked at.
    """
    if not isinstance(value, str | list) or "${" in str(value):
        return None
    found = _written(target)
    said = (found[0].get(name, "") if found else "").strip("'")
    if not said:
        return None
    if said.startswith("Literal[") and said.endswith("]"):
        options = ast.literal_eval(f"({said[8:-1]},)")
        words = tuple(map(str, options))
        fits = isinstance(value, list) or value in options
        return None if fits else (", ".join(map(repr, options)), words)
    kinds = [kind for kind in _alternatives(said) if kind != "Tensor"]  # no word is one
    if not kinds or set(kinds) - {*NUMBERS, "None"}:
        return None
    several = any("[" in kind for kind in kinds)
    if isinstance(value, list) and several and not any(isinstance(v, str) for v in value):
        return None
    wanted = [NUMBERS.get(kind, kind) for kind in kinds]
    return ", or ".join(wanted), ()


def _alternatives(said: str) -> list[str]:
    """Return the types of an annotation, which other packages may join in the older way."""
    older = re.fullmatch(r"(Optional|Union)\[(?:Union\[)?([\w, ]+)\]{1,2}", said)
    if older is None:
        return said.split(" | ")
    return [*older[2].split(", "), *(["None"] if older[1] == "Optional" else [])]


def _written(target: str) -> Written | None:
    module, _, name = target.rpartition(".")
    return _of(module, name, STEPS)


def _of(module: str, name: str, steps: int) -> Written | None:
    tree = _tree(module)
    for node in tree.body if tree is not None and steps else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(module, node, steps - 1)
        if isinstance(node, ast.ImportFrom) and node.module and node.level <= 1:
            home = f"{module}.{node.module}" if node.level else node.module  # relative in stubs
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _of(home, alias.name, steps - 1)
    return None


def _of_class(module: str, node: ast.ClassDef, steps: int) -> Written | None:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    data = any("dataclass" in decorator for decorator in decorators)
    # `sciml.arguments.typed` leaves the names as they are
    foreign = any(text.partition("(")[0] != "typed" for text in decorators)
    if node.keywords or (foreign and not data):
        return None
    makers = {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
    if "__new__" in makers:
        return None
    if "__init__" in makers:
        return _of_function(makers["__init__"])
    bases = [_of(module, ast.unparse(base), steps) for base in node.bases]
    if not data:  # the first base that has a constructor decides
        return bases[0] if bases else None
    if None in bases:
        return None
    fields = [f for f in node.body if isinstance(f, ast.AnnAssign)]
    if any("field(" in ast.unparse(f) and "init=" in ast.unparse(f) for f in fields):
        return None
    own = {ast.unparse(f.target): ast.unparse(f.annotation) for f in fields}
    found: dict[str, str] = {}
    for base in reversed(bases):
        found |= base[0] if base else {}
    return found | {name: said for name, said in own.items() if "ClassVar" not in said}, False


def _of_function(function: ast.FunctionDef) -> Written | None:
    if any("overload" in ast.unparse(d) for d in function.decorator_list):
        return None
    taken = function.args
    named = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs][1:]
    said = {a.arg: ast.unparse(a.annotation) if a.annotation else "" for a in named}
    return said, taken.kwarg is not None


@functools.cache
def _tree(module: str) -> ast.Module | None:
    """Return the parsed source of a module; its packages are not imported."""
    top, *rest = module.split(".")
    try:
        spec = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
        place = Path(spec.origin)
        if rest:
            place = place.parent.joinpath(*rest)
            place = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if place.with_suffix(".pyi").exists():  # what a lazy package offers
            place = place.with_suffix(".pyi")
        return ast.parse(place.read_text(encoding="utf-8"))
    except (AttributeError, TypeError, ValueError, OSError, SyntaxError, ImportError):
        return None
