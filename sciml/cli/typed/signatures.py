"""Names of a constructor's arguments, read from its source without importing it.

Whether a key exists is asked before anything else, and importing what a run needs costs seconds.
What the text does not settle (decorators, names made at run time) is left to the import.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from pathlib import Path

Names = tuple[frozenset[str], bool]  # the names, and whether any other is taken too
STEPS = 8  # imports and base classes to follow


def named_arguments(target: str) -> Names | None:
    """Return what a class takes by name, and whether it takes any other name too.

    Args:
        target: Dotted path, e.g. `torch.optim.Adam`.

    Returns:
        None where the source does not say.
    """
    module, _, name = target.rpartition(".")
    return _of(module, name, STEPS)


def _of(module: str, name: str, steps: int) -> Names | None:
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


def _of_class(module: str, node: ast.ClassDef, steps: int) -> Names | None:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    data = any("dataclass" in decorator for decorator in decorators)
    # `sciml.arguments.typed` leaves the names as they are
    if node.keywords or (any(text != "typed" for text in decorators) and not data):
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
    names = {ast.unparse(f.target) for f in fields if "ClassVar" not in ast.unparse(f.annotation)}
    return frozenset(names).union(*(base[0] for base in bases if base)), False


def _of_function(function: ast.FunctionDef) -> Names | None:
    if any("overload" in ast.unparse(d) for d in function.decorator_list):
        return None
    taken = function.args
    named = [a.arg for a in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
    return frozenset(named[1:]), taken.kwarg is not None


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
