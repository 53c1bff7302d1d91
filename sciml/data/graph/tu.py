"""Graph classification sets in the plain-text format of TU Dortmund.

A set NAME is a folder of text files, one line per edge, node or graph, all numbers from 1:

    NAME_A.txt                "row, column" of every directed edge
    NAME_graph_indicator.txt  the graph of every node
    NAME_graph_labels.txt     the class of every graph
    NAME_node_labels.txt, NAME_edge_labels.txt, NAME_node_attributes.txt, NAME_edge_attributes.txt
                              where there are any

Node features are the one-hot labels and the attributes, or the degree where there are neither; edge
features likewise, or a constant.

Reference: Morris et al. 2020, "TUDataset", arXiv 2007.08663; the sets are at www.graphlearning.io.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.graphs.graph import Graph
from sciml.typed_arguments import typed

REQUIRED = ("A", "graph_indicator", "graph_labels")


@typed
class TUFolder:
    """A graph classification set read from text files.

    Args:
        name: Name of the set: MUTAG, PROTEINS, NCI1, PTC_MR, IMDB-BINARY, ...
        root: Folder that holds the files, or a folder NAME (or NAME/raw) with them.

    Attributes:
        sizes: `node_features`, `edge_features` and `outputs` (classes).
        names: Names of the classes, the labels in the file.

    Raises:
        InvalidArgument: If files are missing or do not fit together.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from sciml.data import TUFolder
        >>> with tempfile.TemporaryDirectory() as root:  # two graphs with an edge each
        ...     np.savetxt(f"{root}/TINY_A.txt", [[1, 2], [2, 1], [3, 4], [4, 3]], "%d", ", ")
        ...     np.savetxt(f"{root}/TINY_graph_indicator.txt", [1, 1, 2, 2], "%d")
        ...     np.savetxt(f"{root}/TINY_graph_labels.txt", [0, 1], "%d")
        ...     folder = TUFolder(name="TINY", root=root)
        >>> len(folder.graphs()), folder.names
        (2, ('0', '1'))
    """

    kind, level = "classification", "graph"

    def __init__(self, *, name: str, root: str | None = None) -> None:
        self.files = find(name, root)
        graph = _integers(self.files["graph_indicator"]).reshape(-1) - 1
        raw = _integers(self.files["graph_labels"]).reshape(-1)
        edges = _integers(self.files["A"]).reshape(-1, 2).T - 1
        if len(graph) == 0 or graph.max() != len(raw) - 1 or (np.diff(graph) < 0).any():
            raise InvalidArgument(
                f"{name}: nodes of {graph.max(initial=-1) + 1} graphs and {len(raw)} labels",
                "one label per graph and nodes in the order of the graphs",
            )
        if edges.size and (edges.min() < 0 or edges.max() >= len(graph)):
            raise InvalidArgument(
                f"{name}: an edge to node {edges.max() + 1} of {len(graph)}", "nodes of the set"
            )
        if (graph[edges[0]] != graph[edges[1]]).any():
            raise InvalidArgument(f"{name}: an edge between two graphs", "edges within a graph")
        values, label = np.unique(raw, return_inverse=True)
        self.names = tuple(str(v) for v in values)
        nodes = self._features("node", len(graph))
        if nodes is None:
            nodes = np.bincount(edges[1], minlength=len(graph)).astype(float)[:, None]
        links = self._features("edge", edges.shape[1])
        links = np.ones((edges.shape[1], 1)) if links is None else links
        self.sizes = {
            "node_features": nodes.shape[1],
            "edge_features": links.shape[1],
            "outputs": len(values),
        }
        self._whole = _Whole(
            torch.from_numpy(graph),
            torch.from_numpy(label),
            torch.from_numpy(edges.copy()),
            torch.from_numpy(nodes),
            torch.from_numpy(links),
        )

    def _features(self, of: str, rows: int) -> np.ndarray | None:
        """Return one-hot labels and attributes of nodes or edges; None if there are none."""
        parts = []
        if f"{of}_labels" in self.files:
            labels = _integers(self.files[f"{of}_labels"]).reshape(-1)
            values, place = np.unique(labels, return_inverse=True)
            parts.append(np.eye(len(values))[place])
        if f"{of}_attributes" in self.files:
            parts.append(np.loadtxt(self.files[f"{of}_attributes"], delimiter=",", ndmin=2))
        for part in parts:
            if len(part) != rows:
                raise InvalidArgument(f"{len(part)} rows of {of} features", f"{rows}")
        return np.concatenate(parts, 1) if parts else None

    def graphs(self) -> list[Graph]:
        """Return the graphs in the order of the files."""
        return self._whole.split()


@dataclass
class _Whole:
    """All graphs of a set as one, nodes in the order of the graphs."""

    graph: Tensor
    label: Tensor
    edges: Tensor
    nodes: Tensor
    links: Tensor

    def split(self) -> list[Graph]:
        count = len(self.label)
        per_node = torch.bincount(self.graph, minlength=count)
        of_edge = self.graph[self.edges[0]]
        order = torch.argsort(of_edge, stable=True)
        per_edge = torch.bincount(of_edge, minlength=count).tolist()
        first = (per_node.cumsum(0) - per_node)[of_edge]
        edges = (self.edges - first)[:, order].split(per_edge, 1)
        links = self.links[order].split(per_edge)
        nodes = self.nodes.split(per_node.tolist())
        parts = zip(nodes, edges, links, self.label.split(1), strict=True)
        return [Graph(x, e, a, y) for x, e, a, y in parts]


def find(name: str, root: str | None) -> dict[str, Path]:
    """Return the files of a set by what they hold.

    Raises:
        InvalidArgument: Saying where files were looked for and where to put them.
    """
    advice = (
        f"Download {name}.zip from www.graphlearning.io (TU Dortmund), unpack it and type "
        f"data.source.root=FOLDER, where FOLDER/{name}/{name}_A.txt is; without files take "
        "data=graph_motifs"
    )
    if root is None:
        raise InvalidArgument(
            f"the graph set {name} without a folder", "files on this disk", advice
        )
    base = Path(root).expanduser()
    tried = [base, base / name, base / name / "raw", base / "raw"]
    for folder in tried:
        found = {p.stem[len(name) + 1 :]: p for p in folder.glob(f"{name}_*.txt")}
        if all(part in found for part in REQUIRED):
            return found
    missing = ", ".join(f"{name}_{part}.txt" for part in REQUIRED)
    looked = ", ".join(map(str, tried[:3]))
    raise InvalidArgument(f"no graph set {name} in {looked}", f"the files {missing}", advice)


def _integers(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(path, delimiter=",", dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}", "whole numbers separated by commas") from error
