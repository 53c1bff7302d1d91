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
from sciml.pretrained.classes.class_table import kind_of
from sciml.pretrained.files.folder import SHIPPED
from sciml.pretrained.saving import example
from sciml.pretrained.saving.card_words import words_of


def render(spec: Mapping, printed: str | None = None, place: str = example.PLACE) -> str:
    """Return the card in Markdown for a `model.json`.

    Args:
        spec: The content of `model.json`.
        printed: What the program of `example` prints; None where there is none.
        place: What the program loads.
    """
    solution = kind_of(spec) == "solution"
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
    meaning, measures, sets = words_of(spec)
    both = spec["inputs"].keys() & spec["outputs"].keys()  # a trajectory: two rows, two shapes
    sides = [(side, *row) for side in ("inputs", "outputs") for row in spec[side].items()]
    for side, name, entry in sides:
        ranges = ", ".join(
            f"{_quantity(name, quantity)} in [{low:.6g}, {high:.6g}]"
            for quantity, (low, high) in entry.get("ranges", {}).items()
        )
        shape = ", ".join(map(str, entry["shape"]))
        what = meaning.get(name, "")
        if name in both:
            what = what or {"inputs": "what is given", "outputs": "what is predicted"}[side]
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
