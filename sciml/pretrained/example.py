"""The program in a card: it runs as it stands and prints a number that the card states.

Operators of elliptic families solve a problem with a known solution, (1 - |x|^2) / 2 in a disk or a
cube, and print their error. Solutions and other operators are evaluated at points made
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

# What families of problems solve, and the source that makes u = (1 - |x|^2) / 2 a solution.
FAMILIES = {
    "StarPoisson": ("Laplacian u = -f", "{d} * one"),
    "BoxPoisson": ("Laplacian u = -f", "{d} * one"),
    "StarScreened": (
        "Laplacian u - sigma u = -f, sigma = screening > 0 one number for every domain,",
        "{d} * one + 4 * exact",
    ),
    "StarDiffusion": ("div(alpha grad u) = -f, alpha = diffusion > 0,", "{d} * one"),
}
# Shapes that lie in the ranges of training: a disk in the plane, a cube in space.
DISK = [
    "sdf = x.norm(dim=0) - 1  # the unit disk: u = 0 on its circle",
    "boundary = 0 * one",
]
CUBE = [
    "# a cube of half side 0.9, its distance, and the boundary point closest to every node",
    "away = x.abs() - 0.9",
    "sdf = away.clamp_min(0).norm(dim=0) + away.amax(0).clamp_max(0)",
    "k = x.abs().argmax(0, keepdim=True)",
    "face = x.scatter(0, k, 0.9 * x.gather(0, k).sign())",
    "closest = torch.where(sdf < 0, face, x.clamp(-0.9, 0.9))",
    "boundary = (1 - closest.square().sum(0)) / 2",
]

ERROR = [
    'error = (out["value"][0] - exact)[inside].norm() / exact[inside].norm()',
    'print(f"{float(error):.4g}")',
]


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
        return "\n".join(lines + _known(spec)) + "\n"
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
        if "norm" in entry.get("ranges", {}):
            size = sum(float(v) for v in entry["ranges"]["norm"]) / 2
            lines.append(f"{name} = {size:.6g} * {name} / {name}.norm(dim=1, keepdim=True)")
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


def _known(spec: Mapping) -> list[str]:
    """Return the lines that solve a problem with a known solution."""
    arguments, source = spec["arguments"], FAMILIES[family_of(spec)][1]
    half = float(arguments.get("half", 1.5))
    if "points" in spec["inputs"]:
        return [
            "# 512 points inside the unit disk, evenly spread, and 256 on its circle",
            "k = torch.arange(512)",
            "r = torch.cat([((k + 0.5) / 512).sqrt(), torch.ones(256)])",
            "angle = torch.cat([2.399963 * k, 2 * torch.pi * torch.arange(256) / 256])",
            "points = torch.stack([r * angle.cos(), r * angle.sin()], 1)",
            "one, exact = torch.ones(768), (1 - r**2) / 2  # 0 on the circle",
            f"source = {source.format(d=2)}",
            "given = dict(points=points, boundary=0 * one, distance=r - 1, source=source)",
            "out = model.predict(**{name: value[None] for name, value in given.items()})",
            "inside = r < 1",
            *ERROR,
        ]
    dim, nodes = int(arguments.get("dim", 2)), int(arguments.get("nodes", 44))
    names = {"sdf": "sdf", "boundary": "boundary", "source": "source"}
    names |= {"screening": "4 * one"} if "screening" in spec["inputs"] else {}
    names |= {"diffusion": "one"} if "diffusion" in spec["inputs"] else {}
    return [
        f"axis = torch.linspace(-{half:g}, {half:g}, {nodes})  # first axis x, second y, ...",
        f'x = torch.stack(torch.meshgrid(*[axis] * {dim}, indexing="ij"))',
        "exact = (1 - x.square().sum(0)) / 2",
        "one = torch.ones_like(exact)",
        *(DISK if dim == 2 else CUBE),
        f"source = {source.format(d=dim)}",
        f"given = dict({', '.join(f'{name}={value}' for name, value in names.items())})",
        "out = model.predict(**{name: value[None] for name, value in given.items()})",
        "inside = sdf < 0",
        *ERROR,
    ]


def run(source: str) -> str:
    """Return what a program of `program` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "<card>", "exec"), {"__name__": "card"})  # noqa: S102
    return printed.getvalue().strip()
