"""Solutions of people's own systems as files: weights and a card, without the class of the system.

A file never names code to run, so the class stays with its author, who hands an instance of it to
`sciml.pinn.load`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sciml.networks.solutions.ansatz import Ansatz
from sciml.networks.solutions.time_windows import TimeWindows
from sciml.pretrained.files import weights

CARD, FOLDER = "solution.json", "solution"  # the folder is that within a run's


def write(
    folder: Path,
    ansatz: Ansatz | TimeWindows,
    network: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    """Write weights and card.

    Args:
        folder: Made where it is not there.
        ansatz: The trained outputs of a system.
        network: Class name and arguments of its network.
        metrics: Errors by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paired = weights.write(folder / weights.FILE, ansatz.state_dict())
    card = {
        "problem": type(ansatz.system).__name__,
        "outputs": list(ansatz.system.outputs),
        "variables": list(ansatz.system.region.variables),
        "network": dict(network),
        "modes": ansatz.modes,
        "windows": getattr(ansatz, "windows", 1),
        "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)},
        "sha256": weights.sha256(folder / weights.FILE),
        "complex128": paired,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def found(folder: Path) -> Path:
    """Return where a solution lies: a folder itself, or the one within a run's folder."""
    inside = folder / FOLDER
    return inside if not (folder / CARD).exists() and (inside / CARD).exists() else folder
