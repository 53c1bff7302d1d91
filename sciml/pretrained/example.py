"""The program in a card: it runs as it stands and prints a number that the card states.

Operators of elliptic families solve a problem with a known solution, the unit ball with
u = 1 - |x|^2, and print their error. Solutions and other operators are evaluated at points made
from the ranges in `model.json`, and print the mean of what they return.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping

PLACE = "path/to/this/folder"
SIZES = {"N": 2}  # of letters in shapes; others are 16
OTHER = 16

# What families of problems solve, and the source that makes u = 1 - |x|^2 a solution.
FAMILIES = {
    "StarPoisson": ("Laplacian u = -f", "{two_d} * one"),
    "BoxPoisson": ("Laplacian u = -f", "{two_d} * one"),
    "StarScreened": (
        "Laplacian u - sigma u = -f, sigma = screening > 0 constant in every domain",
        "{two_d} * one + 4 * exact",
    ),
    "StarDiffusion": ("div(alpha grad u) = -f, alpha = diffusion > 0", "{two_d} * one"),
}


def family_of(spec: Mapping) -> str | None:
    """Return the class of the family of elliptic problems that a description names, or None."""
    recipe = spec["data"].get("recipe") if isinstance(spec["data"], dict) else None
    node = recipe.get("family") if isinstance(recipe, dict) else None
    target = node.get("_target_", "") if isinstance(node, dict) else ""
    name = str(target).rpartition(".")[2]
    shown = "points" in spec["inputs"] or "sdf" in spec["inputs"]
    return name if name in FAMILIES and shown else None


def program(spec: Mapping, place: str = PLACE) -> str | None:
    """Return the program, None where inputs cannot be made up (graphs)."""
    if not all(name.isidentifier() for name in (*spec["inputs"], *spec["outputs"])):
        return None  # it is run: nothing from a file may be more than a name or a number
    load = f"model = sciml.load_pretrained({json.dumps(place)})"
    lines = ["import torch", "", "import sciml", "", load]
    if family_of(spec):
        return "\n".join(lines + _ball(spec)) + "\n"
    for name, entry in spec["inputs"].items():
        if entry.get("optional"):
            continue
        if entry.get("dtype", "float") == "int" or "edges" in entry["shape"]:
            return None
        shape = [SIZES.get(s, OTHER) if isinstance(s, str) else s for s in entry["shape"]]
        low, high = (float(v) for v in _range(entry))
        steps = " * ".join(map(str, shape)) or "1"
        spread = f"torch.linspace({low:.6g}, {high:.6g}, {steps})"
        lines.append(f"{name} = {spread}.view({', '.join(map(str, shape))})")
    names = [name for name, entry in spec["inputs"].items() if not entry.get("optional")]
    first = next(iter(spec["outputs"]))
    lines += [
        f"out = model.predict({', '.join(f'{n}={n}' for n in names)})",
        f'value = out["{first}"].double().mean()',
        'print(f"{float(value):.4g}")',
    ]
    return "\n".join(lines) + "\n"


def _range(entry: Mapping) -> tuple[float, float]:
    """Return the ends of what training saw, [0, 1] where nobody said."""
    ranges = entry.get("ranges", {})
    return ranges.get("value") or ranges.get("coordinate") or (0.0, 1.0)


def _ball(spec: Mapping) -> list[str]:
    """Return the lines that solve the problem in the unit ball."""
    arguments, source = spec["arguments"], FAMILIES[family_of(spec)][1]
    half = float(arguments.get("half", 1.5))
    if "points" in spec["inputs"]:
        return [
            "# 512 points inside the unit disk, evenly spread, and 256 on its circle",
            "k = torch.arange(512)",
            "r = torch.cat([((k + 0.5) / 512).sqrt(), torch.ones(256)])",
            "angle = torch.cat([2.399963 * k, 2 * torch.pi * torch.arange(256) / 256])",
            "points = torch.stack([r * angle.cos(), r * angle.sin()], 1)",
            "one, exact = torch.ones(768), 1 - r**2",
            f"source = {source.format(two_d=4)}  # u = 1 - |x|^2, which is 0 on the circle",
            "out = model.predict(points=points[None], boundary=0 * one[None],",
            "                    distance=(r - 1)[None], source=source[None])",
            'error = (out["value"][0] - exact)[:512].norm() / exact.norm()',
            'print(f"{float(error):.4g}")',
        ]
    dim, nodes = int(arguments.get("dim", 2)), int(arguments.get("nodes", 44))
    given = {"sdf": "(r - 1)[None]", "boundary": "0 * one[None]", "source": "source[None]"}
    given |= {"screening": "4 * one[None]"} if "screening" in spec["inputs"] else {}
    given |= {"diffusion": "one[None]"} if "diffusion" in spec["inputs"] else {}
    call = ", ".join(f"{name}={value}" for name, value in given.items())
    return [
        f"axis = torch.linspace(-{half:g}, {half:g}, {nodes})  # first axis x, second y, ...",
        f'x = torch.stack(torch.meshgrid(*[axis] * {dim}, indexing="ij"))',
        "r = x.norm(dim=0)",
        "one, exact = torch.ones_like(r), 1 - r**2  # the unit ball, u = 0 on its boundary",
        f"source = {source.format(two_d=2 * dim)}",
        *(
            [f"out = model.predict({call})"]
            if len(call) < 75
            else ["out = model.predict(", *(f"    {k}={v}," for k, v in given.items()), ")"]
        ),
        "inside = r < 1",
        'error = (out["value"][0] - exact)[inside].norm() / exact[inside].norm()',
        'print(f"{float(error):.4g}")',
    ]


def run(source: str) -> str:
    """Return what a program of `program` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "<card>", "exec"), {"__name__": "card"})  # noqa: S102
    return printed.getvalue().strip()
