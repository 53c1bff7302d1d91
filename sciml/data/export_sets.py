"""Generated data sets as HDF5 files, for training models of other libraries.

    /                attributes: format, data, conventions, recipe, seed, sizes, unit, versions,
                     checksum
    /train, /val, /test, /test_...        one group per part; attribute: count
        inputs/<name>     what a network is given, samples first
        target            the answer, one row per sample; in graphs one per node or graph
        extra/<name>      masks and weights: a target counts where the mask is 1
        index             graphs only: the graph that each row of the target belongs to

Where runs are trained on noisy labels (walks), files hold exact ones. All graphs of a part are one:
`inputs/edge_index` holds node numbers, `inputs/batch` the graph of each node. The checksum is a
SHA-256 over names, types, shapes and bytes of all arrays, and seed, unit, kind, names and counts:
the same settings give the same checksum on one machine with one version of torch.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import sciml
from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch, joined
from sciml.data.graph.graph_sets import GraphSet
from sciml.data.graph.graphs import batch_of, union
from sciml.data.steady_fields import FieldData
from sciml.data.steps import StepData
from sciml.data.strain_data import SnapshotData
from sciml.data.trajectories.evolution_data import EvolutionData
from sciml.data.walk_labels.walk_data import WalkData
from sciml.errors import InvalidArgument, optional

if TYPE_CHECKING:
    import h5py

FORMAT = 1
SUFFIXES = (".h5", ".hdf5")
# Attributes that the checksum covers beside the arrays: no texts, which change more often.
SIGNED = ("format", "seed", "unit", "kind", "names", "count")


def export(
    data: StepData,
    path: str | Path,
    *,
    train: int | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> str:
    """Write all parts of a data set to an HDF5 file, as a whole or not at all.

    Args:
        data: The data module.
        path: File to write, ending in .h5 or .hdf5; an earlier one is replaced.
        train: Training samples of sets that are drawn without end, rounded up to whole batches;
            256 if None. Sets of fixed size are written whole.
        recipe: What the data module was built from, for the record; plain data.

    Returns:
        The checksum.

    Raises:
        MissingPackage: If h5py is not installed.
        InvalidArgument: For another file name, or a number of samples
            that is not positive.
    """
    h5py, path = optional("h5py", "hdf5", f"{path}, an HDF5 file"), Path(path)
    if path.suffix not in SUFFIXES:
        raise InvalidArgument(f"{path}", f"a file name ending in {' or '.join(SUFFIXES)}")
    if train is not None and train < 1:
        raise InvalidArgument(f"train={train}", "a positive number of samples")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with h5py.File(draft, "w") as file:
            for name, batches in parts(data, train):
                _write(file.create_group(name), joined(list(batches)))
            file.attrs.update(_attributes(data, recipe))
            file.attrs["checksum"] = digest = checksum(file)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return digest


def verify(path: str | Path) -> str:
    """Return the checksum of a file after comparing it with what is in it.

    Raises:
        InvalidArgument: If the file is none of ours or is damaged.
    """
    h5py = optional("h5py", "hdf5", f"{path}, an HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise InvalidArgument(
                    f"{path}", f"a file of format {FORMAT} of sciml.data.export_sets"
                )
            wanted, found = file.attrs.get("checksum"), checksum(file)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read ({error})", "an HDF5 file") from error
    if wanted != found:
        raise InvalidArgument(
            f"{path} has the checksum {found[:12]}…", f"{str(wanted)[:12]}… as recorded in it"
        )
    return found


def parts(data: StepData, train: int | None) -> Iterator[tuple[str, Iterable[Batch]]]:
    """Yield the name of every part with its batches.

    Args:
        data: The data module.
        train: See `export`.
    """
    count = 256 if train is None else train
    if isinstance(data, WalkData):
        yield "train", data.solved("train", count)
        yield "val", data.solved("val", data.val_count)
    elif isinstance(data, EvolutionData):
        if train is not None:
            raise InvalidArgument(f"train={train} for a set of fixed size", "no number of samples")
        solved = {} if data.references is None else {"train": data.references}
        for name, target in {**solved, **data.targets}.items():
            field, streams = data.inputs[name][: len(target)], Streams(data.seed, 0)
            yield name, [Batch({"field": field}, target, streams, len(field), part=name)]
        return
    elif isinstance(data, FieldData | GraphSet | SnapshotData):
        if train is not None:
            raise InvalidArgument(f"train={train} for a set of fixed size", "no number of samples")
        if isinstance(data, FieldData):
            for name, (field, target) in data.sets.items():
                streams = Streams(data.seed, 0)
                yield name, [Batch({"field": field}, target, streams, len(field), part=name)]
        elif isinstance(data, SnapshotData):
            for name in data.sets:
                yield name, [data.whole(name)]
        else:
            for name, graphs in data.parts.items():
                streams = Streams(data.seed, 0)
                yield name, [batch_of(*union(graphs), data.level, streams, len(graphs))]
        return
    else:
        first = data.batch(0)
        steps = range(1, -(-count // _samples(first)))
        # a batch that runs keep for several steps is one batch here: `batch` is asked directly
        yield "train", [first, *(data.batch(step) for step in steps)]
        yield "val", [data.val_chunk(k) for k in range(data.val_chunks)]
    tests: dict[str, list[Batch]] = {}
    for k in range(data.test_chunks):
        batch = data.test_chunk(k)
        tests.setdefault(batch.part, []).append(batch)
    yield from tests.items()


def checksum(file: h5py.File) -> str:
    """Return the SHA-256 of the content of an open file."""
    found = hashlib.sha256()

    def attributes(node: h5py.HLObject) -> None:
        kept = {k: _plain(v) for k, v in node.attrs.items() if k in SIGNED}
        found.update(json.dumps(kept, sort_keys=True).encode())

    names: list[str] = []
    file.visit(names.append)
    attributes(file)
    for name in sorted(names):
        node = file[name]
        found.update(name.encode())
        attributes(node)
        if hasattr(node, "shape"):
            array = np.ascontiguousarray(node[()])
            found.update(f"{array.dtype.str} {array.shape}".encode())
            found.update(array.tobytes())
    return found.hexdigest()


def _write(group: h5py.Group, batch: Batch) -> None:
    def put(name: str, value: torch.Tensor) -> None:
        group.create_dataset(name, data=value.detach().cpu().numpy(), compression="gzip")

    for name, value in batch.inputs.items():
        put(f"inputs/{name}", value)
    for name, value in batch.extra.items():
        put(f"extra/{name}", value)
    put("target", batch.target)
    if batch.index is not None:
        put("index", batch.index)
    group.attrs["count"] = _samples(batch)


def _attributes(data: StepData, recipe: Mapping[str, Any] | None) -> dict[str, Any]:
    made = {type(data).__name__: data}
    for name in ("family", "problem", "task", "source", "cell"):
        if hasattr(data, name) and not isinstance(getattr(data, name), str):
            made[type(getattr(data, name)).__name__] = getattr(data, name)
    sources = {type(part).__module__: inspect.getmodule(type(part)) for part in made.values()}
    texts = [f"{name}\n{inspect.getdoc(module) or ''}" for name, module in sources.items()]
    texts += [f"{name}\n{inspect.getdoc(type(part)) or ''}" for name, part in made.items()]
    return {
        "format": FORMAT,
        "data": ", ".join(made),
        "conventions": "\n\n".join(texts),
        "recipe": json.dumps(recipe or {}, sort_keys=True),
        "seed": data.seed,
        "sizes": json.dumps(data.sizes, sort_keys=True),
        "unit": data.unit,
        "kind": data.kind,
        "names": json.dumps(list(data.names)),
        "versions": json.dumps({"sciml": sciml.__version__, "torch": torch.__version__}),
    }


def _samples(batch: Batch) -> int:
    """Return the number of problems, fields or graphs in a batch."""
    if "batch" in batch.inputs:
        return int(batch.inputs["batch"].max()) + 1
    return len(batch.target)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
