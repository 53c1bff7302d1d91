"""Problems of `sciml.data.walk_labels.walk_data` as clouds of random points: interior and boundary.

Interior points carry walk estimates, boundary points their exact values. Points are fresh in every
step and independent of any grid.
"""

from __future__ import annotations

import time

import torch

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.walk_labels.node_walks import walk_statistics
from sciml.data.walk_labels.walk_data import CHUNK, VAL_SEED, WalkData
from sciml.data.walk_labels.walk_settings import check_settings
from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_clouds import cloud_inputs
from sciml.physics.elliptic.elliptic_families import Family, Instances, Law
from sciml.physics.walks.control_variate import estimate, fitted


class WalkClouds(WalkData):
    """Batches of point clouds with walk-on-spheres labels.

    Args:
        family: Law of the problems, without coefficients that vary.
        interior: Interior points per problem.
        boundary: Boundary points per problem.
        batch_size: Problems per step and rank.
        pool: Domains made once; 0 for fresh ones in every step.
        half: Half the side of the box of the network's latent grid.
        walks: Walks per interior point; 0 for no labels, see `WalkData`.
        control: Degree of the control variate, 0 for none.
        eps: Distance from the boundary at which walks end, of the size of the domain.
        max_steps: Longer walks are projected to the boundary.
        table: Points per axis of the distance tables in which walks move; 0 for exact distances.
        val_count: Problems of the validation set.
        val_walks: Walks per point there, in two halves.
        test_count: Problems in each of the test sets.
        seed: Seed of the training set.
        fixed_for: Steps for which a batch stays the same.

    Raises:
        InvalidArgument: For settings that do not fit.

    Example:
        >>> from sciml.data import WalkClouds
        >>> from sciml.physics.elliptic import StarPoisson
        >>> data = WalkClouds(
        ...     StarPoisson(), interior=20, boundary=10, batch_size=2, pool=2, control=0, table=16,
        ...     val_count=2, test_count=2,
        ... )
        >>> batch = data.batch(0)
        >>> tuple(batch.inputs["points"].shape), tuple(batch.target.shape)
        ((2, 30, 2), (2, 30))
    """

    def __init__(
        self,
        family: Family,
        interior: int = 512,
        boundary: int = 256,
        batch_size: int = 8,
        pool: int = 256,
        half: float = 1.5,
        walks: int = 2,
        control: int = 6,
        eps: float = 3e-3,
        max_steps: int = 500,
        table: int = 64,
        val_count: int = 32,
        val_walks: int = 32,
        test_count: int = 32,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        if family.coefficients or family.dim != 2:
            raise InvalidArgument(f"data.family={type(family).__name__}", "StarPoisson")
        super().__init__(
            family,
            batch_size=batch_size,
            pool=pool,
            nodes=8,
            half=half,
            walks=walks,
            control=control,
            eps=eps,
            max_steps=max_steps,
            table=table,
            val_count=val_count,
            val_walks=val_walks,
            test_count=test_count,
            seed=seed,
            fixed_for=fixed_for,
        )
        check_settings(interior=interior, boundary=boundary)
        self.interior, self.boundary = interior, boundary
        self.sizes = {"half": half}

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs in a batch."""
        return ["points", "boundary", "distance", "source"]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return problems with fresh points and labels."""
        streams = Streams(self.seed, step, rank, world, self.device())
        domain, _ = self._drawn(streams)
        instances = self.family.fields(domain, streams.generator("fields"))
        return self._cloud(instances, streams, self.batch_size * world, self.walks)

    def _cloud(
        self,
        instances: Instances,
        streams: Streams,
        count: int,
        walks: int | None,
        part: str = "test",
    ) -> Batch:
        """Return a cloud; with exact values and no boundary points where `walks` is None."""
        domain, problem = instances.domain, instances.problem
        generator = streams.generator("points")
        inner = domain.sample_interior(self.interior, generator, torch.float64)
        outer = domain.sample_boundary(self.boundary, generator, torch.float64).points
        inputs = cloud_inputs(domain, problem, inner, outer)
        ends, distance = inputs["boundary"][:, self.interior :], inputs["distance"]
        mask, extra = torch.ones_like(distance), {}
        if walks is None:
            target = torch.cat([instances.solution(inner), ends], 1)
            mask = mask * (distance < -0.02)
        elif walks == 0:
            target = torch.cat([torch.zeros_like(distance[:, : self.interior]), ends], 1)
        else:
            psi, start = None, time.perf_counter()
            if self.control:
                psi = fitted(problem, domain, outer, inner, None, self.control, self.grid.half)
            found = estimate(
                self._engine(walks), domain, problem, inner, streams.generator("walks"), psi
            )
            self.walked = walk_statistics(found, start)
            values = [torch.cat([v, ends], 1) for v in (found.mean, *found.halves)]
            # a point that the table takes to be outside has no walks
            mask = mask * values[0].isfinite()
            target = values[0].nan_to_num()
            if walks == self.val_walks:
                extra = {"first": values[1].nan_to_num(), "second": values[2].nan_to_num()}
        extra["mask"] = mask
        return Batch(inputs, target * mask, streams, count, extra=extra, part=part)

    def val_chunk(self, index: int) -> Batch:
        """Return problems of the family with two independent estimates of every value."""
        if ("val", index) not in self._sets:
            streams = Streams(VAL_SEED, index)
            count = min(CHUNK, self.val_count - index * CHUNK)
            law = self.family.test_domains()["test"]
            domain, _ = self._seen(law(count, streams.generator("domains")))
            instances = self.family.fields(domain, streams.generator("fields"))
            self._sets["val", index] = self._cloud(instances, streams, count, self.val_walks)
        return self._sets["val", index]

    def _solved(self, law: Law, count: int, streams: Streams, part: str) -> Batch:
        domain = law(count, streams.generator("domains"))
        instances = self.family.fields(domain, streams.generator("fields"))
        return self._cloud(instances, streams, count, None, part)
