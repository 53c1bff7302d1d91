"""Deep equilibrium networks: classification by the fixed point of a learned map.

    z* = f(z*; x),      loss = cross entropy of head(z*)
                               + jacobian_weight * mean over images of |v^T df/dz|^2 / dim z
                               + sum_k decay^(n - k) * cross entropy of head(f(z_k; x))

The second term (v Gaussian, z* held fixed) keeps the map contractive and the iterations few; the
third (fixed-point correction) applies the task to iterates z_1 ... z_n on the way, so that early
stopping costs less. The derivative of z* is the network's `adjoint`: exact (`ift`), or through the
iteration (`backprop`, `reversible`), or approximate and named so (`onestep`, `phantom`, `shine`).

At the test the same images are solved again from a random start and with ten times the iterations:
a network whose answers depend on neither is path independent, and its test error belongs to the
equilibrium and not to the solver. The spectral radius of df/dz is reported with it.

Sources: Bai, Kolter & Koltun 2019, arXiv 1909.01377; Jacobian penalty 2021, arXiv 2106.14342;
fixed-point correction Bai et al. 2022, arXiv 2204.08442, and arXiv 2310.18605; path independence
Anil et al. 2022, arXiv 2211.09961. Departure: the validation set decides about the best
checkpoint, not the test set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.errors import InvalidArgument
from sciml.modules.evaluation.tally import step_figures
from sciml.modules.supervised import Supervised
from sciml.networks.image.deq_classifier import DEQ, CellClassifier, Equilibrium
from sciml.optim.curvature.terms import LossTerm
from sciml.solvers import Solution, Trace, jacobian_rows, spectral_radius
from sciml.typed_arguments import typed

RADIUS_IMAGES = 32  # images whose spectral radius is computed at the test


@typed
class DEQClassifier(Supervised):
    """Trains `DEQ` and `UnrolledNetwork`; the latter without what concerns solvers.

    Args:
        network: The network.
        data: Images with classes.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        jacobian_weight: Weight of the Jacobian penalty; 0 for none.
        jacobian_share: Share of the steps that compute it, at random; it then counts 1 / share.
        corrections: Evaluations after which the solver's iterate is given the task too.
        correction_decay: Factor of their weights per place before the last.

    Raises:
        InvalidArgument: For another kind of network or data, or settings that cannot be.

    Example:
        >>> import torch
        >>> from sciml.data import ImageData
        >>> from sciml.modules import DEQClassifier
        >>> from sciml.networks import DEQ
        >>> data = ImageData(source="digits", batch_size=4)
        >>> network = DEQ(**data.sizes, width=8, head=8, groups=2)
        >>> module = DEQClassifier(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.loss_terms(data.batch(0).to("cpu", torch.float32))]
        ['data']
    """

    def __init__(
        self,
        *,
        network: CellClassifier,
        data: Any,
        optimizer: Any,
        schedule: Any = None,
        jacobian_weight: float = 0.0,
        jacobian_share: float = 1.0,
        corrections: Sequence[int] = (),
        correction_decay: float = 0.8,
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if not isinstance(network, CellClassifier):
            raise InvalidArgument(
                f"network={type(network).__name__} for module=deq",
                "an equilibrium of a cell",
                "Type network=deq or network=unrolled",
            )
        if data.kind != "classification":
            raise InvalidArgument(
                f"data of kind {data.kind} for module=deq", "classes", "Type data=digits"
            )
        if jacobian_weight < 0 or not 0 < jacobian_share <= 1:
            raise InvalidArgument(
                f"module.jacobian_weight={jacobian_weight}, jacobian_share={jacobian_share}",
                "a weight of zero or more and a share in (0, 1]",
            )
        if (jacobian_weight or corrections) and not isinstance(network, DEQ):
            raise InvalidArgument(
                f"module.jacobian_weight or corrections with network={type(network).__name__}",
                "an equilibrium",
                "Type network=deq",
            )
        self.jacobian_weight, self.jacobian_share = jacobian_weight, jacobian_share
        self.corrections, self.correction_decay = tuple(corrections), correction_decay
        self._solution: Solution | None = None

    # --- the loss -----------------------------------------------------------------------------
    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the cross entropy, and penalty and corrections where asked for."""
        image, dropout = batch.inputs["image"], batch.streams.generator("dropout")
        if not isinstance(self.network, DEQ):
            return [self.data_term(self.network(image), batch)]
        trace = Trace(self.network.solver, self.corrections) if self.corrections else None
        found = self.network.solve(image, dropout, solver=trace)
        self._solution = found.solution
        terms = [self.data_term(found.logits, batch)]
        for k, state in enumerate(trace.states if trace else ()):
            weight = self.correction_decay ** (len(self.corrections) - k)
            logits = self.network.read(self.network.cell(state, *found.theta))
            terms.append(self.data_term(logits, batch, weight, f"iterate_{trace.at[k]}"))
        if self.jacobian_weight:
            terms += self._penalty(found, batch)
        return terms

    def _penalty(self, found: Equilibrium, batch: Batch) -> list[LossTerm]:
        """Return the Jacobian penalty, in a share of the steps, the same ones on all ranks."""
        coin = batch.streams.generator("jacobian", common=True, cpu=True)
        if float(torch.rand((), generator=coin)) >= self.jacobian_share:
            return []
        z = found.solution.value.detach()
        noise = batch.streams.generator("probe")
        probe = torch.randn(z.shape, generator=noise, device=z.device).to(z.dtype)
        rows = jacobian_rows(self.network.cell, z, found.theta, probe).flatten(1)
        rows = rows / math.sqrt(rows.shape[1])
        weight = self.jacobian_weight / self.jacobian_share
        return [LossTerm("jacobian", rows, weight, batch.count)]

    def on_after_backward(self) -> None:
        """Now and then log what the solver did, forward and backward."""
        solution, self._solution = self._solution, None  # a graph is not kept over the step
        if solution is not None and (self.global_step + 1) % self.trainer.log_every_n_steps == 0:
            self.log_dict(step_figures(solution))

    # --- evaluation ---------------------------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return logits, and note what the solver did."""
        image = batch.inputs["image"]
        if not isinstance(self.network, DEQ):
            return self.network(image)
        found = self.network.solve(image)
        self.effort.solve("test/deq" if self.trainer.testing else "val/deq", found.solution)
        if self.trainer.testing:
            self._other_paths(found, batch)
        return found.logits

    def _other_paths(self, found: Equilibrium, batch: Batch) -> None:
        """Solve the same images from a random start, and with ten times the iterations."""
        network, image = self.network, batch.inputs["image"]
        z = found.solution.value
        generator = batch.streams.generator("start")
        noise = torch.randn(z.shape, generator=generator, device=z.device).to(z.dtype)
        size = z.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        start = noise * size.reshape(-1, 1, 1, 1)
        long = longer(network.solver, 10)
        runs = {"random_start": {"start": start}} | (
            {"ten_times": {"solver": long}} if long else {}
        )
        for name, options in runs.items():
            other = network.solve(image, **options)
            apart = (other.solution.value - z).flatten(1).norm(dim=1) / z.flatten(1).norm(dim=1)
            self.effort.peak(f"test/path/{name}_distance_max", apart)
            right = other.logits.argmax(1) == batch.target
            self.effort.mean(f"test/path/{name}_accuracy", right)
        few = slice(0, RADIUS_IMAGES)
        theta = (found.theta[0][few], *found.theta[1:])  # the injection, then weights
        radius = spectral_radius(network.cell, z[few], theta, generator=generator)
        self.effort.peak("test/path/spectral_radius_max", radius)


def longer(solver: Any, factor: int) -> Any:
    """Return the solver with `factor` times the iterations and a tolerance as much smaller.

    None for one that does not count iterations.
    """
    names = {f.name for f in fields(solver)} if hasattr(solver, "__dataclass_fields__") else set()
    if "max_iter" not in names:
        return None
    rtol = getattr(solver, "rtol", None)
    tight = {} if rtol is None else {"rtol": rtol / factor}
    return replace(solver, max_iter=factor * solver.max_iter, **tight)
