"""Which arrays are inputs and which outputs, by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sciml.data.sources.source import Array, Source
from sciml.errors import InvalidArgument

INPUTS = ("x", "a", "input", "inputs", "x_train", "coeff", "nu", "branch", "f", "source", "ic",
          "initial", "u0", "features", "in")  # fmt: skip
OUTPUTS = ("y", "u", "output", "outputs", "y_train", "sol", "solution", "target", "targets",
           "label", "labels", "out")  # fmt: skip


def names_to_type(names: Sequence[str], wanted: Sequence[str]) -> str:
    """Return the line that says which of some arrays are given and which wanted.

    Args:
        names: Of all arrays.
        wanted: Those that are recognised as outputs.
    """
    outs = [n for n in names if n in wanted] or list(names[-1:])
    ins = [n for n in names if n not in outs] or outs
    said = f"data.inputs=[{','.join(ins)}] data.outputs=[{','.join(outs)}]"
    if ins == outs:
        return f"Type {said}; one name in both is a trajectory"
    turned = f"data.inputs=[{','.join(outs)}] data.outputs=[{','.join(ins)}]"
    return f"Type {said}, or {turned}; one name in both is a trajectory"


def check_counts_of(source: Source) -> None:
    """Refuse inputs and outputs that are recognised but have other numbers of samples.

    Raises:
        InvalidArgument: With their shapes.
    """
    known = [a for n, a in source.arrays.items() if n.lower() in (*INPUTS, *OUTPUTS) and a.shape]
    if len(known) > 1 and len({a.shape[0] for a in known}) > 1:
        raise InvalidArgument(
            f"{source.path} with {', '.join(f'{a.name} {a.shape}' for a in known)}",
            "the same number of samples, along the first axis",
            "Choose others with data.inputs=[NAME] data.outputs=[NAME]",
        )


def guessed(
    source: Source, sampled: Mapping[str, Array], named: Sequence[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of inputs and outputs, empty where nothing says which is which.

    Args:
        source: From `open_source`.
        sampled: Arrays whose first axis counts samples.
        named: Those that the user has typed.
    """
    if source.outputs:
        return source.inputs, source.outputs
    free = [n for n in sampled if n not in named]
    low = {n: n.lower().rpartition("/")[2] for n in free}
    ins = [n for n in free if low[n] in INPUTS]
    outs = [n for n in free if low[n] in OUTPUTS]
    if named:
        return ins or free, outs or free
    if ins and outs:
        return ins[:1] if len(ins) > 1 and low[ins[0]] in ("x", "a") else ins, outs
    if len(free) == 2:
        if outs:
            return [n for n in free if n not in outs], outs
        if ins:
            return ins, [n for n in free if n not in ins]
    if len(free) == 1 and len(sampled[free[0]].shape) >= 3:
        return free, free  # a trajectory
    return (), ()
