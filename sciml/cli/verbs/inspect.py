"""`sciml inspect FILE`: what is recognised in a file of fields, without training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml.cli.checks import own_files
from sciml.errors import ConfigError, SciMLError

if TYPE_CHECKING:
    from sciml.data.cloud_files import CloudFiles
    from sciml.data.field_files import FieldFiles
    from sciml.data.sources.source import Source

USAGE = """usage: sciml inspect FILE [data.KEY=VALUE ...]

Prints arrays, shapes, axes, units, channels and ranges of a file or folder, what would be input and
output, and how it would be split. The settings are those of data=fields (data=clouds for lists of
point clouds), as for

  python train.py model=fno data.path=FILE data.inputs=[x] data.outputs=[y]

examples:
  sciml inspect darcy.h5
  sciml inspect flow.mat data.inputs=[u] data.outputs=[u] "data.axes={u: [n, x, y, t]}"
"""


def main(argv: Sequence[str]) -> int:
    """Run the verb.

    Args:
        argv: Arguments after `sciml inspect`.

    Returns:
        0, or 2 after one message on stderr.
    """
    words = list(argv)
    if not words or "--help" in words or "-h" in words:
        print(USAGE)
        return 0
    path = next((w for w in words if not w.startswith("data.")), None)
    try:
        if path is None or len([w for w in words if not w.startswith("data.")]) > 1:
            raise ConfigError("sciml inspect takes one file or folder", "sciml inspect FILE")
        changes = [w.removeprefix("data.") for w in words if w.startswith("data.")]
        print(inspected(path, changes))
    except (SciMLError, OSError) as error:
        print(f"sciml inspect: {error}", file=sys.stderr)
        return 2
    return 0


def inspected(path: str, changes: Sequence[str]) -> str:
    """Print what is in a file, and return how a run would use it.

    Args:
        path: File or folder.
        changes: Settings of `data=fields` as KEY=VALUE.

    Raises:
        SciMLError: If it cannot be read, or a setting is wrong.
    """
    from sciml.data.readers import open_source

    source = open_source(path)
    clouds = source.clouds is not None
    print(described(source), flush=True)  # at once: the rest imports torch and lightning
    typed = _typed(changes)
    own_files.refuse_unknown(typed, own_files.CLOUDS if clouds else own_files.FIELDS)
    if not clouds:
        own_files.refuse_unrecognised(source, typed)
    from sciml.cli.runs.build import make
    from sciml.cli.verbs.data_node import data_node

    node = data_node("clouds" if clouds else "fields", changes, {"path": path})
    data = make("data", node, {})
    return used_clouds(data) if clouds else used(data)


def _typed(changes: Sequence[str]) -> dict[str, Any]:
    """Return settings as typed; empty where they cannot be read, which is told later."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist(list(changes)), resolve=True)
    except (OmegaConfBaseException, ValueError, TypeError, LookupError, YAMLError):
        return {}


def used_clouds(data: CloudFiles) -> str:
    """Return how `model=cloud_unet` would use a list of point clouds, in lines."""
    plain, sizes = data.sizes["clouds"], [len(c[data.where]) for c in data.clouds]
    box = ", ".join(f"{a:.4g} to {b:.4g}" for a, b in zip(plain["low"], plain["high"], strict=True))
    features = ", ".join(data.features) or "the coordinates alone"
    return "\n".join(
        [
            "",
            f"points {data.where}: {plain['dim']} coordinates, {min(sizes)} to {max(sizes)} points "
            f"per sample, {box} in training",
            f"input  {features}",
            f"output {data.wanted}: {plain['out_channels']} channel"
            f"{'s' * (plain['out_channels'] > 1)}, unit {data.unit}",
            "split  " + ", ".join(f"{name} {len(rows)}" for name, rows in data.chosen.items()),
            *(f"note   {text}" for text in data.notes),
            f"note   {data.points} random points of each sample in a training batch (data.samples)",
            "note   type model=cloud_unet, model=gino or model=fnogno",
        ]
    )


def described(source: Source) -> str:
    """Return the arrays, coordinates and numbers of a source, in lines."""
    lines = [f"{source.path}: {source.format}", "", "arrays"]
    width = max(map(len, source.arrays), default=0)
    for array in source.arrays.values():
        shared = not array.sampled and source.clouds is None
        role = "   the same for all samples" if shared else ""
        unit = f" [{array.unit}]" if array.unit else ""
        lines.append(f"  {array.name:<{width}}  {array.shape} {array.dtype}{unit}{role}")
    if source.clouds is not None:
        lines.append(f"  of {len(source.clouds)} samples; these are the shapes of the first")
    for axis, values in source.coordinates.items():
        lines.append(f"  {axis}: {len(values)} values from {values[0]:g} to {values[-1]:g}")
    if source.attributes:
        lines.append("numbers in the file: " + _pairs(source.attributes))
    return "\n".join(lines)


def used(data: FieldFiles) -> str:
    """Return how a run would use a file, in lines."""
    plain, lines = data.sizes["fields"], [""]
    at = 0
    for side in ("inputs", "outputs"):
        at, moments = 0, getattr(data.statistics, side)
        for f in getattr(data.fields, side):
            part = slice(at, at + f.channels)
            at += f.channels
            low, high = float(moments.low[part].min()), float(moments.high[part].max())
            shape = ", ".join(["samples", *(_axis(a, f.sizes) for a in f.axes)])
            lines.append(
                f"{side[:-1]:<7}{f.name}: ({shape}), {f.channels} channel"
                f"{'s' * (f.channels > 1)}, unit {f.unit}, {low:.4g} to {high:.4g} in training"
            )
    kinds = ", ".join(f"{a} {n} points ({k})" for a, n, k in zip(
        "xyz", plain["size"], plain["grid"], strict=False))  # fmt: skip
    lines.append(f"grid   {kinds}, {'periodic' if plain['periodic'] else 'not periodic'}")
    if data.layout.moving:
        how = (
            f"roll-out: {data.history} state{'s' * (data.history > 1)} in, {data.bundle} out, "
            f"repeated {data.calls} times in the test"
            if data.rolls
            else f"all {data.bundle} later states at once"
        )
        lines.append(f"time   {len(data.times)} states; {how}")
    tests = {name: len(held.numbers) for name, held in data.tests.items()}
    parts = {k: len(v) for k, v in data.chosen.items() if k != "test"} | tests
    lines.append("split  " + ", ".join(f"{name} {n}" for name, n in parts.items()))
    where = "in memory" if data.rows.held else f"read in blocks of {data.rows.block} samples"
    lines.append(f"read   {where}")
    if not data.rows.held and data.source.chunked > 1:
        lines.append(f"       chunks of {data.source.chunked} samples: whole chunks are read")
    lines += [f"note   {text}" for text in data.notes]
    beside = _beside(data)
    if beside and list(data.tests) == ["test"] and data.tests["test"].rows is data.rows:
        lines.append(f"note   {beside} stands beside it: data.test_path=[{beside}]")
    return "\n".join(lines)


def _axis(name: str, sizes: Mapping[str, int]) -> str:
    words = {"t": "times", "c": "channels"}
    return f"{sizes[name]} {words[name]}" if name in sizes else name


def _pairs(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v:g}" if isinstance(v, float) else f"{k} = {v}"
                     for k, v in numbers.items())  # fmt: skip


def _beside(data: FieldFiles) -> str:
    """Return the path of a test file beside a file of training samples, empty if there is none."""
    path = Path(data.path)
    other = path.with_name(path.name.replace("train", "test"))
    return str(other) if other != path and other.exists() else ""
