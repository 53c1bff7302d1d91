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

from sciml.errors import PretrainedError
from sciml.networks.solutions.ansatz import Ansatz
from sciml.networks.solutions.time_windows import TimeWindows
from sciml.pretrained.files import weights

# What a card has, and of which kind.
KINDS = {"problem": str, "outputs": list, "variables": list, "network": dict, "modes": int,
         "windows": int, "sha256": str, "complex128": list}  # fmt: skip
MOST = 10_000  # harmonics, and windows of time
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
        "setting": setting(ansatz.system),
        "network": dict(network),
        "modes": ansatz.modes,
        "windows": getattr(ansatz, "windows", 1),
        "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)},
        "sha256": weights.sha256(folder / weights.FILE),
        "complex128": paired,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def setting(system: Any) -> dict[str, Any]:
    """Return what of a system its network's inputs and outputs depend on, as data."""
    region = system.region
    ends = zip(region.variables, region.low.tolist(), region.high.tolist(), strict=True)
    return {
        "domain": {name: [low, high] for name, low, high in ends},
        "scales": {name: list(pair) for name, pair in system.scales.items()},
        "periodic": list(system.periodic),
        "mirrored": dict(system.mirrored),
    }


def read(folder: Path, system: Any) -> dict[str, Any]:
    """Return the card of a solution after comparing it with the system it is read for.

    Raises:
        PretrainedError: For a card that is missing or damaged, and for another problem.
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        wrong = [key for key, kind in KINDS.items() if not isinstance(card[key], kind)]
        network = {key: card["network"][key] for key in ("class", "arguments")}
        if wrong or not isinstance(network["arguments"], dict):
            raise ValueError(f"{', '.join(wrong) or 'network.arguments'} is of another kind")
        if not 1 <= card["modes"] <= MOST or not 1 <= card["windows"] <= MOST:
            raise ValueError(f"modes={card['modes']}, windows={card['windows']}")
        if not (folder / weights.FILE).is_file():
            raise ValueError(f"{weights.FILE} is missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PretrainedError(
            f"{path} cannot be read ({type(error).__name__}: {error})",
            "a folder from solution.save(), or that of a run of one's own problem",
        ) from error
    title = type(system).__name__
    known = {"outputs": list(system.outputs), "variables": list(system.region.variables)}
    known |= setting(system)
    there = card | card.get("setting", {})
    for key, here in known.items():
        if key in there and there[key] != here:
            raise PretrainedError(
                f"a solution of {card['problem']} with {key} {there[key]}",
                f"one of {title}, with {key} {here}",
                "Hand over the problem that it was trained on",
            )
    return card


def found(folder: Path) -> Path:
    """Return where a solution lies: a folder itself, or the one within a run's folder."""
    inside = folder / FOLDER
    return inside if not (folder / CARD).exists() and (inside / CARD).exists() else folder
