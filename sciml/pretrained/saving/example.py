"""The program in a card: it runs as it stands and prints a number that the card states.

Operators of elliptic families solve a problem with a known solution in a disk or a cube, of the
size of those in training, and print their error. Preconditioners solve a pressure system with
SciPy's CG, and print its iterations. Solutions and other operators are evaluated at points made
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

# What families of problems solve, a solution of the size and kind that training saw, and the lines
# that make its data; r2 is |x|^2.
BUMP = "2 * (1 - r2) * (-r2).exp()"  # minus the Laplacian of exp(-|x|^2) / 2 in the plane
FAMILIES = {
    "StarPoisson": (
        "Laplacian u = -f",
        "(-x.square().sum(0)).exp() / 2 + x[0] / 4",
        [f"source = {BUMP}  # minus the Laplacian of u"],
    ),
    "BoxPoisson": (
        "Laplacian u = -f",
        "(-x.square().sum(0)).exp() + 1 + x[0] / 2",
        ["source = (6 - 4 * r2) * (-r2).exp()  # minus the Laplacian of u"],
    ),
    "StarScreened": (
        "Laplacian u - sigma u = -f, sigma = screening > 0 one number for every domain,",
        "(-x.square().sum(0)).exp() / 2 + (2 * x[0] - 2).exp()",
        [
            "screening = torch.full_like(r2, 4)",
            "source = (4 - 2 * r2) * (-r2).exp()  # 4 u minus the Laplacian of u",
        ],
    ),
    "StarDiffusion": (
        "div(alpha grad u) = -f, alpha = diffusion > 0,",
        "(-x.square().sum(0)).exp() / 2 + x[0] / 4",
        [
            "diffusion = (x[0].sin() / 2).exp()",
            "slope = 1 / 4 - x[0] * (-r2).exp()  # du/dx",
            f"source = diffusion * ({BUMP} - x[0].cos() / 2 * slope)",
        ],
    ),
}
# Shapes that lie in the ranges of training: a disk in the plane, a cube in space.
DISK = [
    "sdf = x.norm(dim=0) - 1  # the unit disk",
    "angle = torch.atan2(x[1], x[0])",
    "closest = torch.stack([angle.cos(), angle.sin()])  # the boundary point closest to every node",
]
CUBE = [
    "# a cube of half side 0.9, its distance, and the boundary point closest to every node",
    "away = x.abs() - 0.9",
    "sdf = away.clamp_min(0).norm(dim=0) + away.amax(0).clamp_max(0)",
    "k = x.abs().argmax(0, keepdim=True)",
    "face = x.scatter(0, k, 0.9 * x.gather(0, k).sign())",
    "closest = torch.where(sdf < 0, face, x.clamp(-0.9, 0.9))",
]

ERROR = [
    'error = (out["value"][0] - exact)[inside].norm() / exact[inside].norm()',
    'print(f"{float(error):.4g}")',
]


# How a preconditioner is used, and on which grid of 2 or 3 axes.
SOLVE = [
    "import numpy as np",
    "import torch",
    "from scipy.sparse.linalg import cg",
    "",
    "import sciml",
    "from sciml.networks.preconditioners import LearnedPreconditioner",
    "from sciml.physics.fluids import RandomDomains",
]
GRIDS = {2: (128, 128), 3: (32, 32, 32)}
PRECONDITIONED = """
# a random flow domain: bodies, cut cells, open and closed ends
family, draw = RandomDomains(coefficients=("two_phase",)), torch.Generator().manual_seed(1)
stencil = family.draw(1, {grid}, draw).stencil
learned = LearnedPreconditioner(model.network, stencil)  # sees the matrix once
matrix, steps = stencil.to_csr(), []
b = matrix @ np.sin(np.arange(matrix.shape[0]))
x, failed = cg(matrix, b, rtol=1e-6, M=learned.to_scipy(), callback=steps.append)
assert not failed and np.linalg.norm(b - matrix @ x) < 2e-6 * np.linalg.norm(b)
print(len(steps))
# batches and gradients: stencil.solve(b, linear=guarded(learned), on_failure="raise")
"""


# How a constrained operator is asked; its equation knows the problem and how to solve it otherwise.
CONSTRAINED = """
problem = model.network.equation.problem
field = problem.sample(2, torch.Generator().manual_seed(1))  # the problem's own law of inputs
out = model.predict(field=field)
# out["converged"], out["residual"]: what every expert of every sample did
u = out["value"].double()
exact = problem.solve(field).value.view_as(u)
print(f"{float((u - exact).norm() / exact.norm()):.4g}")
"""


def preconditions(spec: Mapping) -> bool:
    """Return whether a description is that of a symmetric positive definite preconditioner."""
    return spec.get("class") == "LearnedMultigrid"


def imposed(spec: Mapping) -> tuple[str, Mapping] | None:
    """Return name and arguments of the problem that a constrained operator imposes, else None."""
    if spec.get("class") != "ConstrainedFNO":
        return None
    try:
        node = spec["arguments"]["constraint"]["arguments"]["equation"]["arguments"]["problem"]
        return str(node["class"]), dict(node["arguments"])
    except (KeyError, TypeError, ValueError):
        return None


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
    if imposed(spec):
        return "\n".join(lines) + CONSTRAINED
    if preconditions(spec):
        grid = GRIDS[3 if spec["arguments"].get("dim") == 3 else 2]
        return "\n".join(SOLVE + lines[3:]) + PRECONDITIONED.format(grid=grid)
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
    arguments = spec["arguments"]
    _, value, data = FAMILIES[family_of(spec)]
    lines = ["", "", "def u(x):  # the solution", f"    return {value}", "", ""]
    known = ["exact, r2 = u(x), x.square().sum(0)", *data]
    extra = "".join(f", {n}={n}" for n in ("screening", "diffusion") if n in spec["inputs"])
    if "points" in spec["inputs"]:
        return [
            *lines,
            "# 512 random points inside the unit disk, uniform in area, and 256 on its circle",
            "draw = torch.Generator().manual_seed(0)",
            "r = torch.cat([torch.rand(512, generator=draw).sqrt(), torch.ones(256)])",
            "angle = 2 * torch.pi * torch.rand(768, generator=draw)",
            "closest = torch.stack([angle.cos(), angle.sin()])  # on the circle",
            "x = r * closest",
            *known,
            "given = dict(points=x.T, boundary=u(closest), distance=r - 1, source=source)",
            "out = model.predict(**{name: value[None] for name, value in given.items()})",
            "inside = r < 1",
            *ERROR,
        ]
    dim = int(arguments.get("dim", 2))
    half, nodes = float(arguments.get("half", 1.5)), int(arguments.get("nodes", 44))
    return [
        *lines,
        f"axis = torch.linspace(-{half:g}, {half:g}, {nodes})  # first axis x, second y, ...",
        f'x = torch.stack(torch.meshgrid(*[axis] * {dim}, indexing="ij"))',
        *(DISK if dim == 2 else CUBE),
        *known,
        f"given = dict(sdf=sdf, boundary=u(closest), source=source{extra})",
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
