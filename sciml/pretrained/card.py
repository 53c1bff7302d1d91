"""The card: a README for people, written from `model.json`.

    python -m sciml.pretrained [FOLDER ...]

writes the cards of folders anew, those of the shipped models if none is named.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

from sciml.errors import InvalidArgument, InvalidType, RangeWarning
from sciml.pretrained import example

# What the names of inputs mean, for operators on domains.
MEANING = {
    "sdf": "signed distance of every node to the boundary: negative inside, positive outside, a "
    "true distance (slope 1), not a mask",
    "boundary": "g at the boundary point closest to every node or point, inside and outside",
    "source": "f at every node or point, also outside",
    "screening": "sigma, the same number at every node of a domain",
    "diffusion": "alpha at every node",
    "points": "coordinates (x, y) of points inside and on the boundary, in any order; drawn at "
    "random in training, uniform in area and length: evenly spaced ones double the error",
    "distance": "minus the distance of every point to the boundary: negative inside, 0 on it",
    "value": "u; on grids g of the closest boundary point outside the domain",
}
# What was measured, by the end of its name.
MEASURES = {
    "rel_l2": "mean over the problems of the set of |u - exact|_2 / |exact|_2 at the nodes inside",
    "skill": "root mean square error over that of the best constant field, all problems together",
}
SETS = {
    "test": "unseen domains and data of the training law",
    "test_ellipse": "ellipses, which training never saw",
    "test_polygon": "polygons, which training never saw",
    "test_l_shape": "L-shapes, which training never saw",
    "test_ball": "balls, which training never saw",
}
# The same for laws of cells.
LAW_MEANING = {
    "strain": "macro strain (exx, eyy, gxy), with the engineering shear gxy = 2 exy",
    "stress": "homogenised stress (sxx, syy, sxy)",
    "tangent": "its exact derivative with respect to the strain",
}
LAW_MEASURES = {
    "rel_l2": "mean over strains of |shat - FE|_2 / |FE|_2, homogenised stress; _max the largest",
    "r2_xx": "and so on: coefficient of determination of a component of the homogenised stress",
    "stress_xx": "and so on: relative L2 error of a component of the local stress over all "
    "quadrature points, mean over strains; _median the median",
    "tangent": "relative error of the homogenised tangent, Frobenius norm",
}
LAW_SETS = {
    "test": "uniform strains in the box, independent of training",
    "test_small": "strains of at most a tenth of the box",
    "test_isochoric": "strains that keep at most a tenth of their change of volume",
}

# The same for preconditioners.
SYSTEM_MEANING = {
    "residual": "r, of any size; cells that are no unknowns are not looked at",
    "weights": "w of the face between a cell and its lower neighbour, per axis in the order of the "
    "grid; 0 where there is none (the first face of every axis) or nothing is joined",
    "shift": "s, what the diagonal holds beside the faces: w of faces to fixed values",
    "value": "M r; symmetric positive definite in r, whatever the weights of the network are",
}
SYSTEM_MEASURES = {
    "iterations": "of flexible CG in float64 to a true relative residual of 1e-6, mean; "
    "_multigrid: with the classical V-cycle in its place",
    "iterations_max": "the most",
    "unsolved": "share of the systems that were not solved in 300 iterations",
    "residual": "largest true relative residual",
    "loss": "share of the error's A-norm that one step leaves, squared, mean",
}


# The same for operators with a constraint.
IMPOSED_MEANING = {
    "field": "what an instance is given, one channel each, at the points of the problem's grid: "
    "first the initial state",
    "times": "times of the levels, the problem's own, fewer, or more that go on alike",
    "value": "u at times and points",
    "converged": "whether the solve of each expert met its tolerance",
    "status": "why it ended, see `sciml.solvers.Status`; 0 is converged",
    "iterations": "of each expert's solve",
    "rank": "numerical rank of each expert's rows; at most the number of functions",
    "expert_residual": "root mean square of each expert's rows of the equation",
    "residual": "root mean square of the equation over the assembled field",
    "jump": "root mean square of the jumps where experts meet",
}
IMPOSED_MEASURES = {
    "rel_l2": "mean over instances of |u - solver|_2 / |solver|_2, by the problem's own solver",
    "residual": "root mean square of the equation's rows over the assembled field, mean",
    "jump": "root mean square of the jumps where experts meet, mean",
    "fail_frac": "share of experts that did not meet their tolerance",
}
IMPOSED_SETS = {
    "test": "unseen instances of the training law, in the time of training",
    "test_beyond": "the same beyond the time of training",
}


def _words(spec: Mapping) -> tuple[Mapping, Mapping, Mapping]:
    """Return what inputs and outputs, measures and sets of a model mean, where that is known."""
    if spec["class"] == "EquiNO":
        return LAW_MEANING, LAW_MEASURES, LAW_SETS
    if example.preconditions(spec):
        sizes = (spec["data"].get("recipe") or {}).get("test_sizes", [])
        sets = {f"test_{n}": f"unseen domains of {n} cells per axis" for n in sizes}
        sets["test"] = sets[f"test_{sizes[0]}"] if sizes else ""
        return SYSTEM_MEANING, SYSTEM_MEASURES, sets
    if example.imposed(spec):
        return IMPOSED_MEANING, IMPOSED_MEASURES, IMPOSED_SETS
    return (MEANING, MEASURES, SETS) if example.family_of(spec) else ({}, {}, {})


def render(spec: Mapping, printed: str | None = None, place: str = example.PLACE) -> str:
    """Return the card in Markdown for a `model.json`.

    Args:
        spec: The content of `model.json`.
        printed: What the program of `sciml.pretrained.example` prints; None where there is none.
        place: What the program loads.
    """
    solution = "problem" in spec["arguments"]
    lines = [f"# {spec['name']}", ""]
    if spec["description"]:
        lines += [spec["description"], ""]
    lines += [_sentence(spec) if solution else f"`{spec['class']}`, an operator.", ""]
    names = [f"{k}=None" if e.get("optional") else k for k, e in spec["inputs"].items()]
    found = "; ".join(
        f'out["{name}"] ({", ".join(map(str, entry["shape"]))})'
        for name, entry in spec["outputs"].items()
    )
    lines += _equation(spec)
    program = example.program(spec, place) if printed is not None else None
    if program is None:
        program = f'import sciml\n\nmodel = sciml.load_pretrained("{place}")\n'
    lines += [
        "```python",
        *program.splitlines(),
        f"# in general model.predict({', '.join(names)})  # {found}",
        "```",
        "",
    ]
    if printed is not None:
        lines += [f"This program prints `{printed}`, {_meaning(spec)}.", ""]
    lines += [
        "## Inputs and outputs",
        "",
        "| name | shape | unit | seen in training | what it is |",
        "|---|---|---|---|---|",
    ]
    meaning, measures, sets = _words(spec)
    for name, entry in {**spec["inputs"], **spec["outputs"]}.items():
        ranges = ", ".join(
            f"{_quantity(name, quantity)} in [{low:.6g}, {high:.6g}]"
            for quantity, (low, high) in entry.get("ranges", {}).items()
        )
        shape = ", ".join(map(str, entry["shape"]))
        what = meaning.get(name, "")
        cells = (name, f"({shape})", entry["unit"], ranges or "–", what)
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    if spec["metrics"]:
        lines += ["", "## Measured quality", "", "| metric | value | measured on |"]
        lines.append("|---|---|---|")
        recipe = spec["data"].get("recipe") or {}
        counts = {"test": recipe.get("test"), "test_small": recipe.get("small")}
        counts["test_isochoric"] = recipe.get("small")
        for name, value in sorted(spec["metrics"].items()):
            part = name.partition("/")[0]
            where = sets.get(part, "")
            count = recipe.get("test_count") or counts.get(part)
            where = f"{count} {where}" if where and count else where
            number = "not finite" if value is None else format(value, ".4g")
            lines.append(f"| {name} | {number} | {where} |".replace("|  |", "| |"))
        kinds = {name.rpartition("/")[2] for name in spec["metrics"]} & set(measures)
        if kinds:
            lines += ["", *(f"- {k}: {measures[k]}" for k in sorted(kinds))]
    lines += ["", "## How it was made", ""]
    if solution:
        how = {
            "Problem": spec["arguments"]["problem"]["arguments"],
            "Network": spec["arguments"]["network"]["arguments"],
            "Network inputs": spec["arguments"]["inputs"],
        }
    else:
        how = {"Network": spec["arguments"]}
    for title, content in {**how, "Data": spec["data"], "Versions": spec["versions"]}.items():
        lines.append(f"- {title}: `{json.dumps(content, ensure_ascii=False)}`")
    return "\n".join(lines) + "\n"


def _equation(spec: Mapping) -> list[str]:
    """Return what an operator for elliptic problems solves, where, and how it is laid out."""
    if example.preconditions(spec):
        return _system(spec)
    if example.imposed(spec):
        return _imposed(spec)
    name = example.family_of(spec)
    if name is None:
        return []
    family = spec["data"]["recipe"]["family"]
    law = ", ".join(f"{k} = {v}" for k, v in family.items() if k != "_target_")
    half, nodes = spec["arguments"].get("half", 1.5), spec["arguments"].get("nodes", 44)
    lines = [
        "## What it solves",
        "",
        f"- Equation: {example.FAMILIES[name][0]} in the domain, u = g on its boundary. Mind the "
        "sign of f.",
        f"- Trained on: `{name}`" + (f" with {law}." if law else "."),
    ]
    if "points" in spec["inputs"]:
        lines.append(f"- Box: domains lie inside [-{half:g}, {half:g}]^2; any number of points.")
    else:
        dim = spec["arguments"].get("dim", 2)
        letters = ", ".join("ijk"[:dim])
        nodes_of = ", ".join(f"{c}_{i}" for c, i in zip("xyz", "ijk"[:dim], strict=False))
        lines += [
            f"- Box: [-{half:g}, {half:g}]^{dim}, {nodes} nodes along every axis, both ends "
            "included; the domain lies inside.",
            f"- Axes: `sdf[n, {letters}]` belongs to the point ({nodes_of}) of problem n: "
            "the first axis is x.",
        ]
    return [
        *lines,
        "- Units: any one length for x, any one unit for u and g; then f has u / length^2.",
        "- Elsewhere: x = c + s y turns f into s^2 f and sigma into s^2 sigma; "
        "`sciml.pretrained.inputs.operator_inputs` does this for any domain, polygon, mask or "
        "mesh, and `model.solve` takes domains and functions.",
        "",
    ]


def _system(spec: Mapping) -> list[str]:
    """Return the matrices that a preconditioner is for."""
    problem = (spec["data"].get("recipe") or {}).get("problem", {})
    law = ", ".join(f"{k} = {v}" for k, v in problem.items() if k != "_target_")
    return [
        "## What it is for",
        "",
        "- Matrices: (A x)_c = s_c x_c + sum over the faces f of cell c of w_f (x_c - x_nb(f)), "
        "w >= 0, s >= 0, on a grid; a cell without w and s is no unknown. "
        "`sciml.solvers.linear.Stencil` holds them, `arrays_of` turns them into the arrays below.",
        "- Scaling: A may be multiplied by any positive number; it is seen through ratios alone.",
        "- Grids: any number of cells per axis; odd ones are padded by the hierarchy itself.",
        "- Guarantee: M is symmetric positive definite for any matrix of this form, so CG "
        "converges; on domains unlike those of training it may take more iterations.",
        f"- Trained on: random domains with {law}.",
        "",
    ]


def _imposed(spec: Mapping) -> list[str]:
    """Return which equation a constrained operator obeys, and how."""
    (name, settings), layer = example.imposed(spec), spec["arguments"]["constraint"]["arguments"]
    law = ", ".join(f"{k} = {v}" for k, v in settings.items())
    share = (spec["data"].get("recipe") or {}).get("share")
    return [
        "## What it solves",
        "",
        f"- Problem: `sciml.physics.evolution.{name}`" + (f" with {law}." if law else "."),
        f"- Constraint: the network gives functions; {layer.get('experts', 1)} experts, each for "
        "a block of the grid, find their weights by solving the equation there, also when "
        "predicting. Look at `converged`.",
        *(
            [f"- Trained on the first {share:.0%} of the time, without any solution."]
            if share
            else []
        ),
        "- Grid: that of the problem in space (`model.network.equation.problem.grids`), its times.",
        "",
    ]


def update(folder: Path, spec: Mapping) -> str:
    """Return the card of a written folder, with the number that its program prints there."""
    from sciml.pretrained.folder import SHIPPED

    shipped = folder.resolve().parent == SHIPPED.resolve()
    program = example.program(spec, str(folder))
    printed = None
    if program is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RangeWarning)
                printed = example.run(program)
        except (InvalidArgument, InvalidType):
            pass  # inputs that must fit each other in ways that the schema does not say
    return render(spec, printed, spec["name"] if shipped else example.PLACE)


def _meaning(spec: Mapping) -> str:
    """Return what the number is that the program prints."""
    if example.preconditions(spec):
        return "the iterations of SciPy's CG to 1e-6"
    if example.imposed(spec):
        return "the relative L2 error of two instances over all times, beyond those of training too"
    if not example.family_of(spec):
        return "the mean prediction"
    typical = spec["metrics"].get("test/rel_l2")
    count = (spec["data"].get("recipe") or {}).get("test_count")
    what = "its relative L2 error in this problem"
    if typical is None or not count:
        return what
    return f"{what}; the mean over {count} unseen problems is `{typical:.4g}`"


def _sentence(spec: Mapping) -> str:
    problem, network = spec["arguments"]["problem"], spec["arguments"]["network"]
    dim = spec["inputs"]["x"]["shape"][1]
    what = f"`{network['class']}` for `{problem['class']}`"
    return f"`{spec['class']}` of {what} in {dim} dimensions."


def _quantity(name: str, quantity: str) -> str:
    # no |x|: a bar ends the cell of a Markdown table
    names = {"norm": f"norm of {name}", "coordinate": f"each {name}_i", "value": name}
    return names.get(quantity, quantity)
