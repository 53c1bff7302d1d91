"""The operators shipped with the package: measured anew from the recipe in their card.

    python -m sciml.testing.shipped RUN_FOLDER [RUN_FOLDER ...]

measures the operators of finished runs and copies them into the package.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch

from sciml.cli.paths import describe
from sciml.cli.runs.build import make
from sciml.modules.evaluation.scores import Regression
from sciml.pretrained import PretrainedOperator, load_pretrained
from sciml.pretrained.files.folder import SHIPPED
from sciml.pretrained.judging.trained_constraint import is_constrained
from sciml.pretrained.judging.trained_law import is_law
from sciml.pretrained.saving.save import update_metrics

LARGEST = 3_000_000  # bytes
# Of an operator with a constraint, in the time of training and beyond.
IMPOSED = ("/rel_l2", "test/residual", "beyond/residual", "/jump", "constraint/fail_frac")
# Of the law of a cell: what its card records.
LAW = ("/rel_l2", "/rel_l2_max", "/tangent", "/tangent_max", "/r2_xx", "/r2_yy", "/r2_xy")
LAW += tuple(f"/stress_{c}{kind}" for c in ("xx", "yy", "xy") for kind in ("", "_median"))


@torch.no_grad()
def measure(model: PretrainedOperator, parts: tuple[str, ...] = ()) -> dict[str, float]:
    """Return `<part>/rel_l2` and the other scores on the test sets of an operator's recipe.

    Args:
        model: An operator trained on `sciml.data.walk_labels.walk_data`.
        parts: Test sets to measure; all of them if there are none.
    """
    data = make("data", model.spec["data"]["recipe"], {"seed": model.spec["data"]["seed"]})
    dtype = next(model.parameters()).dtype
    scores: dict[str, Regression] = {}
    for chunk in range(data.test_chunks):
        batch = data.test_chunk(chunk).to("cpu", dtype)
        if parts and batch.part not in parts:
            continue
        inside = batch.extra["mask"] > 0
        index = torch.arange(len(inside)).view(-1, *[1] * (inside.dim() - 1))
        score = scores.setdefault(batch.part, Regression())
        score.add(
            model(**batch.inputs)[inside], batch.target[inside], index.expand_as(inside)[inside]
        )
    return {k: v for part, score in scores.items() for k, v in score.metrics(part).items()}


def ship(run: Path) -> Path:
    """Measure the operator of a run and copy it into the package; return where it is now."""
    model = load_pretrained(run)
    # the test of a run has looked at whole fields, of which a law knows nothing
    if is_law(model) or is_constrained(model):
        found, kinds = model.metrics, LAW if is_law(model) else IMPOSED
    else:
        found, kinds = measure(model), ("/rel_l2", "/skill")
    target = SHIPPED / str(model.spec["name"])
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(run / "pretrained", target)
    _without_folders(target / "model.json")
    kept = {k: v for k, v in found.items() if k.endswith(kinds) and "/baseline/" not in k}
    update_metrics(target, kept, describe("model", target.name))
    size = sum(file.stat().st_size for file in target.iterdir())
    if size > LARGEST:
        shutil.rmtree(target)
        raise SystemExit(f"{run}: {size} bytes, more than {LARGEST}")
    return target


def _without_folders(file: Path) -> None:
    """Take out of a recipe where this machine keeps its files."""
    spec = json.loads(file.read_text(encoding="utf-8"))
    recipe = spec["data"].get("recipe") or {}
    recipe.update({key: None for key in ("cache", "root") if recipe.get(key) is not None})
    file.write_text(json.dumps(spec, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(ship(Path(folder)))
