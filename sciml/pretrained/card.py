"""The card: a README for people, written from `model.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping


def render(spec: Mapping) -> str:
    """Return the card in Markdown for a `model.json`."""
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
    lines += [
        "```python",
        "import sciml",
        "",
        'model = sciml.load_pretrained("path/to/this/folder")',
        f"out = model.predict({', '.join(names)})  # {found}",
        "```",
        "",
        "## Inputs and outputs",
        "",
        "| name | shape | unit | seen in training |",
        "|---|---|---|---|",
    ]
    for name, entry in {**spec["inputs"], **spec["outputs"]}.items():
        ranges = ", ".join(
            f"{_quantity(name, quantity)} in [{low:.6g}, {high:.6g}]"
            for quantity, (low, high) in entry.get("ranges", {}).items()
        )
        shape = ", ".join(map(str, entry["shape"]))
        lines.append(f"| {name} | ({shape}) | {entry['unit']} | {ranges or '–'} |")
    if spec["metrics"]:
        lines += ["", "## Measured quality", "", "| metric | value |", "|---|---|"]
        lines += [
            f"| {name} | {'not finite' if value is None else format(value, '.4g')} |"
            for name, value in sorted(spec["metrics"].items())
        ]
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


def _sentence(spec: Mapping) -> str:
    problem, network = spec["arguments"]["problem"], spec["arguments"]["network"]
    dim = spec["inputs"]["x"]["shape"][1]
    what = f"`{network['class']}` for `{problem['class']}`"
    return f"`{spec['class']}` of {what} in {dim} dimensions."


def _quantity(name: str, quantity: str) -> str:
    # no |x|: a bar ends the cell of a Markdown table
    names = {"norm": f"norm of {name}", "coordinate": f"each {name}_i", "value": name}
    return names.get(quantity, quantity)
