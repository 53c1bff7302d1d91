"""Elliptic problems whose labels are walks on spheres made in the step that uses them.

Inputs are fields on a grid (`sciml.physics.elliptic.elliptic_grid`); targets, with their mask in
`extra`, are what a few walks from inner nodes found. Their noise averages out: nothing is stored.

    training    domains from a pool, or fresh ones; fields, walks and noise fresh in every step
    validation  two independent halves of walks per node: their product measures the true error
    test        exact solutions, on the family's own domains and on domains of another kind
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.data.walk_labels.node_walks import at_nodes, walk_statistics, walked_nodes
from sciml.data.walk_labels.walk_settings import check_cache, check_settings
from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_families import Family, Instances, Law
from sciml.physics.elliptic.elliptic_grid import Grid, Shapes, grid_inputs
from sciml.physics.geometry import Domain
from sciml.physics.walks.distance_table import WalkTable, inside_points
from sciml.physics.walks.estimate import Estimate
from sciml.physics.walks.label_cache import LabelCache
from sciml.physics.walks.spheres import WalkOnSpheres

VAL_SEED, TEST_SEED = 0x76616C, 0x74657374  # sets that do not depend on the run's seed
FILE_SEED = 0x66696C65  # sets that are written to files only
CHUNK = 16  # instances per chunk of validation and test sets


class WalkData(StepData):
    """Batches of elliptic problems with walk-on-spheres labels.

    Args:
        family: Law of the problems.
        batch_size: Problems per step and rank.
        pool: Domains made once, before the first step; 0 for fresh ones in every step.
        nodes: Points of the grid per axis.
        half: Half the side of the grid's box.
        walks: Walks per node and step; even numbers start in opposite pairs; 0 for no labels.
        control: Degree of the polynomial of `sciml.physics.walks.control_variate`; 0 for none.
        eps: Distance from the boundary at which walks end, of the size of the domain.
        max_steps: Longer walks are projected to the boundary.
        table: Points per axis of the distance tables in which walks move; 0 for exact distances.
        margin: Nodes closer than this to the boundary have no labels.
        cache: Keep fixed problems on the pool's domains and average all their walks so far.
        val_count: Problems of the validation set.
        val_walks: Walks per node there, in two halves.
        test_count: Problems in each of the test sets.
        seed: Seed of the training set.
        fixed_for: Steps for which a batch stays the same.

    Attributes:
        walked: Of the last training batch: "seconds", mean "steps" of a walk, "truncated" share.

    Raises:
        InvalidArgument: For settings that do not fit.

    Example:
        >>> from sciml.data import WalkData
        >>> from sciml.physics.elliptic import StarPoisson
        >>> WalkData(StarPoisson(), pool=2, nodes=12, control=0, table=16).input_names
        ['sdf', 'boundary', 'source']
    """

    kind = "regression"

    def __init__(
        self,
        family: Family,
        batch_size: int = 16,
        pool: int = 256,
        nodes: int = 44,
        half: float = 1.5,
        walks: int = 2,
        control: int = 6,
        eps: float = 3e-3,
        max_steps: int = 500,
        table: int = 64,
        margin: float = 0.01,
        cache: bool = False,
        val_count: int = 32,
        val_walks: int = 32,
        test_count: int = 32,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        check_settings(
            batch_size=batch_size,
            pool=pool,
            half=half,
            walks=walks,
            control=control,
            eps=eps,
            max_steps=max_steps,
            table=table,
            margin=margin,
            val_count=val_count,
            val_walks=val_walks,
            test_count=test_count,
        )
        if cache:
            check_cache(pool, batch_size, walks)
        self.family, self.batch_size, self.pool = family, batch_size, pool
        self.grid = Grid(nodes, half, family.dim)
        self.walks, self.control, self.eps, self.max_steps = walks, control, eps, max_steps
        self.table, self.margin, self.cache = table, margin, cache
        self.val_count, self.val_walks, self.test_count = val_count, val_walks, test_count
        self.sizes = {"dim": family.dim, "half": half, "nodes": nodes}
        self.sizes["coefficients"] = list(family.coefficients)
        self.walked: dict[str, Tensor | float] = {}
        self._pool: tuple[Domain, Shapes] | None = None
        self._labels: LabelCache | None = None
        self._sets: dict[tuple[str, int], Batch] = {}

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs in a batch."""
        return ["sdf", "boundary", "source", *self.family.coefficients]

    # --- training ---------------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return problems with fresh labels.

        Raises:
            InvalidArgument: For a cache on several ranks, whose averages would not be in the
                checkpoint.
        """
        if self.cache and world > 1:
            raise InvalidArgument(
                "data.cache=true on several ranks", "one", "Type data.cache=false"
            )
        streams = Streams(self.seed, step, rank, world, self.device())
        count = self.batch_size * world
        rows = None
        if self.cache:
            blocks = self.pool // self.batch_size
            block = torch.randint(blocks, (), generator=streams.generator("domains", cpu=True))
            rows = torch.arange(self.batch_size) + int(block) * self.batch_size
            fixed = Streams(self.seed, int(block), 0, 1, streams.device)
            domain, shapes = self._chosen(rows.to(streams.device))
            fields = fixed.generator("fixed fields", common=True)
        else:
            domain, shapes = self._drawn(streams)
            fields = streams.generator("fields")
        instances = self.family.fields(domain, fields)
        if self.walks == 0:
            nothing = torch.zeros_like(shapes.sdf).view(-1, *self.grid.shape)
            return self._batch(instances, shapes, nothing, streams, count)
        engine, start = self._engine(self.walks), time.perf_counter()
        found, where = self._walked(engine, instances, shapes, streams.generator("walks"))
        self.walked = walk_statistics(found, start)
        mean = self._on_grid(found.mean, *where)
        if rows is not None:
            squares = self._on_grid(found.squares.nan_to_num(), *where)
            whole = replace(found, mean=mean.flatten(1), squares=squares.flatten(1))
            mean = self._cache().update(rows, whole)[0].view_as(mean)
        return self._batch(instances, shapes, mean, streams, count)

    def _drawn(self, streams: Streams) -> tuple[Domain, Shapes]:
        """Return domains of this step on this rank."""
        generator = streams.generator("domains")
        if self.pool == 0:
            return self._seen(self.family.domains(self.batch_size, generator))
        kind = {"generator": generator, "device": generator.device}
        return self._chosen(torch.randint(self.pool, (self.batch_size,), **kind))

    def _chosen(self, index: Tensor) -> tuple[Domain, Shapes]:
        """Return domains of the pool, which is the same on all ranks."""
        if self._pool is None:
            generator = Streams(self.seed, 0, device=self.device()).generator("pool", common=True)
            self._pool = self._seen(self.family.domains(self.pool, generator))
        domains, shapes = self._pool
        return domains.select(index), shapes.select(index)

    def _seen(self, domain: Domain) -> tuple[Domain, Shapes]:
        """Return domains as walks see them, and as the grid does."""
        shapes = Shapes.of(domain, self.grid)
        return (WalkTable(domain, self.table) if self.table else domain), shapes

    def _cache(self) -> LabelCache:
        if self._labels is None:
            points = self.grid.nodes**self.grid.dim
            self._labels = LabelCache(self.pool, points, self.device())
        return self._labels

    # --- labels -----------------------------------------------------------------------------------
    def _engine(self, walks: int) -> WalkOnSpheres:
        return WalkOnSpheres(
            walks=walks,
            eps=self.eps,
            max_steps=self.max_steps,
            antithetic=walks % 2 == 0,
            outside="nan",
            close=0.0,  # labels need no error bars, and points keep a margin
        )

    def _walked(
        self,
        engine: WalkOnSpheres,
        instances: Instances,
        shapes: Shapes,
        generator: torch.Generator,
    ) -> tuple[Estimate, tuple[Tensor, Tensor]]:
        """Return estimates at the nodes inside, and which nodes these are."""
        mask = self._mask(shapes)
        return walked_nodes(engine, instances, shapes, mask, self.grid, self.control, generator)

    def _mask(self, shapes: Shapes) -> Tensor:
        """Return which nodes have labels, `(B, n^d)`."""
        return shapes.sdf < -self.margin

    def _on_grid(self, values: Tensor, index: Tensor, own: Tensor) -> Tensor:
        """Return values `(B, m)` at their nodes, `(B, n, ..., n)`, zero elsewhere."""
        return at_nodes(values, index, own, self.grid)

    def _batch(
        self,
        instances: Instances,
        shapes: Shapes,
        target: Tensor,
        streams: Streams,
        count: int,
        margin: float | None = None,
        part: str = "test",
        **extra: Tensor,
    ) -> Batch:
        margin = self.margin if margin is None else margin
        mask = (shapes.sdf < -margin).view(target.shape).to(target)
        inputs = grid_inputs(instances.domain, instances.problem, self.grid, shapes)
        return Batch(
            inputs, target * mask, streams, count, extra={"mask": mask, **extra}, part=part
        )

    # --- validation and test ----------------------------------------------------------------------
    @property
    def val_chunks(self) -> int:
        """Number of chunks of the validation set."""
        return -(-self.val_count // CHUNK)

    def val_chunk(self, index: int) -> Batch:
        """Return problems of the family with two independent estimates of every value."""
        if ("val", index) not in self._sets:
            streams = Streams(VAL_SEED, index)
            count = min(CHUNK, self.val_count - index * CHUNK)
            law = self.family.test_domains()["test"]
            domain, shapes = self._seen(law(count, streams.generator("domains")))
            instances = self.family.fields(domain, streams.generator("fields"))
            engine = self._engine(self.val_walks)
            found, where = self._walked(engine, instances, shapes, streams.generator("walks"))
            mean, first, second = (self._on_grid(v, *where) for v in (found.mean, *found.halves))
            self._sets["val", index] = self._batch(
                instances, shapes, mean, streams, count, first=first, second=second
            )
        return self._sets["val", index]

    @property
    def test_chunks(self) -> int:
        """Number of chunks of all test sets."""
        return len(self.family.test_domains()) * -(-self.test_count // CHUNK)

    def test_chunk(self, index: int) -> Batch:
        """Return problems of one of the test sets with exact values farther than 0.02 inside."""
        laws = self.family.test_domains()
        per = -(-self.test_count // CHUNK)
        part, number = list(laws)[index // per], index % per
        count = min(CHUNK, self.test_count - number * CHUNK)
        return self._solved(laws[part], count, Streams(TEST_SEED, index), part)

    def solved(self, part: str, count: int) -> Iterator[Batch]:
        """Yield problems with exact values for files (`sciml.data.export_sets`), in chunks.

        Args:
            part: "train", of the training law, or "val". Runs never see these problems.
            count: Problems in all.
        """
        laws = {"train": self.family.domains, "val": self.family.test_domains()["test"]}
        seed = FILE_SEED ^ (self.seed if part == "train" else VAL_SEED)
        for index in range(-(-count // CHUNK)):
            size = min(CHUNK, count - index * CHUNK)
            yield self._solved(laws[part], size, Streams(seed, index), part)

    def _solved(self, law: Law, count: int, streams: Streams, part: str) -> Batch:
        domain = law(count, streams.generator("domains"))
        shapes = Shapes.of(domain, self.grid)
        instances = self.family.fields(domain, streams.generator("fields"))
        margin = max(0.02, self.margin)
        nodes, own = inside_points(shapes.sdf < -margin)
        points = self.grid.points(count)
        exact = instances.solution(
            points.gather(1, nodes[..., None].expand(-1, -1, points.shape[2]))
        )
        target = self._on_grid(exact, nodes, own)
        return self._batch(instances, shapes, target, streams, count, margin, part)

    def example(self) -> dict[str, Tensor]:
        """Return the inputs of two problems, of the training set unless that changes its labels."""
        found = self.val_chunk(0) if self.cache else self.batch(0)
        return {name: value[:2] for name, value in found.inputs.items()}

    # --- resuming ---------------------------------------------------------------------------------
    def state_dict(self) -> dict:
        """Return the number of batches drawn, and the averages of a cache."""
        labels = {"labels": self._cache().state_dict()} if self.cache else {}
        return {**super().state_dict(), **labels}

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue where a run was interrupted."""
        super().load_state_dict(state_dict)
        if self.cache:
            self._cache().load_state_dict(state_dict["labels"])
