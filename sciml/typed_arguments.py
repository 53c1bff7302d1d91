"""Arguments checked by their annotations: one decorator for functions and classes."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from sciml.arguments import (
    PREFIXES,
    Kind,
    array,
    checked_function,
    counts,
    either,
    flag,
    flags,
    function,
    generator,
    maker,
    mapping,
    maybe,
    names,
    numbers,
    one_of,
    path,
    precision,
    real,
    several,
    some,
    tensor,
    tensors,
    text,
    whole,
)

Target = TypeVar("Target", bound=Callable[..., Any])


@overload
def typed(target: Target) -> Target: ...
@overload
def typed(**said: Kind | None) -> Callable[[Target], Target]: ...
def typed(target: Any = None, /, **said: Kind | None) -> Any:
    """Return a function, or a class, that refuses arguments of another type than it is written for.

    Numbers, names, choices, tensors, arrays, sequences of them and objects of the house's own
    classes (not of protocols) are looked at, and None where it may stand. A subclass that has
    arguments of its own is decorated itself.

        @typed(index=integers)
        def one_hot(index: Tensor, dim: int): ...

    Args:
        target: The function or class; none in a decorator with kinds.
        said: Kinds of arguments whose annotations say too little, by name; None for those that the
            function looks at itself, and has more to say of.
    """
    if target is None:
        return functools.partial(typed, **said)
    function = target.__init__ if isinstance(target, type) else target
    given = {p.name: str(p.annotation) for p in inspect.signature(function).parameters.values()}
    # a dataclass's own __init__ has no names, and a class may take others of its kind
    known = {**vars(sys.modules[target.__module__]), target.__name__: target}
    kinds = {name: kind for name, text in given.items() if (kind := written_kind(text, known))}
    kinds = {name: kind for name, kind in {**kinds, **said}.items() if kind}
    places = PREFIXES.items() if isinstance(target, type) else ()  # no word is for a function
    key = next((k for place, k in places if target.__module__.startswith(place)), "")
    if key == "module.":  # which networks fit, and what to type, a method says itself
        kinds.pop("network", None)
    checked = checked_function(function, kinds, key)
    if not isinstance(target, type):
        return checked
    target.__init__ = checked
    return target


def _all(one: Kind) -> Kind:
    def kind(value: Any) -> str:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return f"a list, of {one(None)} each"
        return next((f"{wanted} in every place" for v in value if (wanted := one(v))), "")

    return kind


def _instance(owner: type) -> Kind:
    return lambda value: "" if isinstance(value, owner) else f"a {owner.__name__}"


WRITTEN = {
    "int": whole,
    "float": real,
    "bool": flag,
    "str": text,
    "Tensor": tensor,
    "float | Tensor": numbers,
    "Sequence[float]": some,
    "list[float]": some,
    "tuple[float, ...]": some,
    "Sequence[bool]": flags,
    "Sequence[int]": counts,
    "list[int]": counts,
    "tuple[int, ...]": counts,
    "Path": path,
    "Mapping[str, Any]": mapping,
    "dict[str, Any]": mapping,
    "Sequence[Tensor]": tensors,
    "tuple[Tensor, ...]": tensors,
    "Callable": function,
    "Callable[..., torch.optim.Optimizer]": maker,
    "Callable[[torch.optim.Optimizer], object]": maker,
    "torch.Generator": generator,
    "np.ndarray": array,
    "torch.dtype": precision,
    "Sequence[str]": names,
    "tuple[str, ...]": names,
}


def written_kind(annotation: str, known: Mapping[str, Any]) -> Kind | None:
    """Return the kind that an annotation says; None for one that needs more than a look."""
    said = annotation.strip("'")
    if said.endswith(" | None"):
        kind = written_kind(said.removesuffix(" | None"), known)
        return kind and maybe(kind)
    if " | " in said and "[" not in re.sub(r"\[[^\[\]|]*\]", "", said) and said not in WRITTEN:
        kinds = [written_kind(part, known) for part in said.split(" | ")]
        return either(*kinds) if all(kinds) else None
    if said.startswith("Literal["):
        return one_of(*ast.literal_eval(f"({said[8:-1]},)"))
    if found := re.fullmatch(r"tuple\[((?:int, )*int|(?:float, )*float)\]", said):
        parts = found[1].split(", ")
        one, what = (whole, "whole numbers") if parts[0] == "int" else (real, "numbers")
        return several(one, len(parts), what)
    if found := re.fullmatch(r"(?:Sequence|tuple)\[(\w+)(?:, \.\.\.)?\]", said):
        if said not in WRITTEN and (one := written_kind(found[1], known)):
            return _all(one)
    first, *rest = said.split(".")
    owner = functools.reduce(lambda o, name: getattr(o, name, None), rest, known.get(first))
    if typing.get_origin(owner) is typing.Literal:
        return one_of(*typing.get_args(owner))
    if typing.get_origin(owner) is Callable:
        return function
    if isinstance(owner, type) and owner.__module__.startswith("sciml."):
        return None if getattr(owner, "_is_protocol", False) else _instance(owner)
    general = "Callable" if said.startswith("Callable[") else said
    return WRITTEN.get(said, WRITTEN.get(general))
