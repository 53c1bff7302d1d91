"""Prediction with a trained operator: inputs checked against its schema, chunks, range warnings.

A network says what it takes and returns:

    schema() -> {"inputs": {"f": {"shape": ["N", "H", "W"], "unit": "1", "dtype": "float"}},
                 "outputs": {"value": {"shape": ["N", "H", "W"], "unit": "1"}}}

Numbers are fixed sizes, letters free ones; equal letters must be equal sizes. Inputs that begin
with "N" are independent samples along that axis and may be evaluated in chunks. An input with
`"optional": true` may be left out. `infer(**inputs)` returns the outputs in physical units.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciml.arguments import maybe, takes, whole
from sciml.errors import InvalidArgument, RangeWarning
from sciml.pretrained import elliptic
from sciml.pretrained.checks.arrays_given import check_finite
from sciml.pretrained.checks.given_inputs import (
    check_derivatives,
    check_meaning,
    check_shapes,
    named_inputs,
)
from sciml.pretrained.checks.training_ranges import outside_inputs
from sciml.pretrained.predictors.exported import export

if TYPE_CHECKING:
    from sciml.physics.elliptic.elliptic_problem import Dirichlet
    from sciml.physics.geometry import Domain
    from sciml.physics.walks.verified_errors import Verification

# Numbers in the largest input of one chunk: operators on grids hold some 300 more for each of them,
# 1 kB, so 150 MB at once on the CPU, where larger chunks are slower as well.
# And samples in a chunk, for networks with a grid inside that their inputs do not show.
CHUNK_CPU, CHUNK_DEVICE = (2**17, 128), (2**21, 2048)


class PretrainedOperator(nn.Module):
    """A trained operator with its description.

    Attributes:
        network: The network, with gradients in its inputs but none in its weights.
        spec: The content of `model.json`.

    Example:
        >>> import sciml
        >>> law = sciml.load_pretrained("equino_rve1")
        >>> found = law.predict(strain=[[0.02, 0.0, 0.0]])
        >>> tuple(found["stress"].shape), tuple(found["tangent"].shape)
        ((1, 3), (1, 3, 3))
        >>> sorted(law.spec["inputs"])
        ['strain']
    """

    def __init__(self, network: nn.Module, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.spec = network.eval().requires_grad_(False), spec

    @property
    def metrics(self) -> dict[str, float]:
        """Measured quality as recorded at save time."""
        return dict(self.spec["metrics"])

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the network's prediction, differentiable, without checks or chunks."""
        return self.network(**inputs)

    @takes(chunk=maybe(whole), correct=whole, seed=whole)
    def predict(
        self, *values: Any, chunk: int | None = None, correct: int = 0, seed: int = 0, **inputs: Any
    ) -> dict[str, Tensor]:
        """Return the outputs in physical units.

        Args:
            values: Inputs in the order of the card.
            chunk: Samples evaluated at once; by default what keeps memory moderate.
            correct: Walks from every node inside that correct an elliptic operator on a grid: then
                `value` is unbiased for the problem that the grid shows, `standard_error` its error
                bar (NaN where no walks start) and `model` what the operator says.
            seed: Of these walks.
            inputs: Inputs by name, anything `torch.as_tensor` takes.

        Returns:
            The outputs that the card lists, on the device of the first input; differentiable if an
            input requires gradients.

        Raises:
            InvalidArgument: If an input is missing, unknown, misshapen or not finite, if what is
                called a distance is none, or if derivatives are asked for of walks or with
                respect to a cloud of points.
            InvalidType: If it has the wrong kind of numbers.
            PretrainedError: If an output is not finite.
        """
        entries = self.spec["inputs"]
        if correct:
            elliptic.check_correctable(self.network, entries, correct)
        given = named_inputs(entries, values, inputs)
        free = check_shapes(entries, given)
        check_derivatives(given)
        fixed = {key: value.detach() for key, value in given.items()}
        check_meaning(fixed, getattr(self.network, "half", None))
        self._warn_of_ranges(fixed)
        device = next(iter(given.values())).device
        weight = next(self.parameters(), torch.empty(0))
        moved = {key: self._moved(v, weight) for key, v in given.items()}
        n = free.get("N")
        if n is None:
            if chunk is not None:
                raise InvalidArgument(f"chunk={chunk}", "none: this operator takes one sample")
            return self._infer(moved, device, correct, seed)
        if chunk is None:
            largest = max(v.numel() for v in moved.values()) // max(n, 1)
            most, samples = CHUNK_CPU if weight.device.type == "cpu" else CHUNK_DEVICE
            chunk = max(1, min(most // max(largest, 1), samples))
        elif not isinstance(chunk, int) or chunk < 1:
            raise InvalidArgument(f"chunk={chunk!r}", "a positive number of samples")
        split = [key for key in moved if entries[key]["shape"][0] == "N"]
        parts = []
        for start in range(0, n, chunk):
            piece = {key: moved[key][start : start + chunk] for key in split}
            parts.append(self._infer({**moved, **piece}, device, correct, seed + start))
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    @takes(steps=whole)
    def rollout(self, steps: int, *values: Any, **inputs: Any) -> dict[str, Tensor]:
        """Return the next states of a trajectory, each predicted from those before.

        Args:
            steps: States wanted, at least 1.
            values: Inputs in the order of the card: what is known at first.
            inputs: The same by name.

        Returns:
            The outputs that the card lists, with an axis of `steps` times, where the training file
            has times or else behind the samples, on the device of the first input.

        Raises:
            InvalidArgument: If the inputs do not fit, or the operator was not trained on
                trajectories.
            PretrainedError: If a state is not finite: the roll-out has become unstable.

        Example:
            op.rollout(100, u=first)["u"]  # first (N, H) -> (N, 100, H) for files (N, T, H)
        """
        if steps < 1:
            raise InvalidArgument(f"steps={steps}", "a positive number of states")
        if not hasattr(self.network, "rollout"):
            raise InvalidArgument(
                f"a roll-out of {type(self.network).__name__}",
                "an operator trained on trajectories",
                "Use predict",
            )
        given = named_inputs(self.spec["inputs"], values, inputs)
        check_shapes(self.spec["inputs"], given)
        self._warn_of_ranges(given)
        device = next(iter(given.values())).device
        weight = next(self.parameters(), torch.empty(0))
        with torch.no_grad():
            moved = {key: self._moved(v, weight) for key, v in given.items()}
            found = self.network.rollout(steps, **moved)
        check_finite(found)
        return {key: value.to(device) for key, value in found.items()}

    def export(self, *values: Any, **inputs: Any) -> torch.export.ExportedProgram:
        """Return the operator as a program of torch alone; see `exported`.

        Args:
            values: An example of the inputs, as for `predict`: all sizes but the number of samples
                stay those of the example. May be left out by operators that know their grid.
            inputs: The same by name.

        Raises:
            InvalidArgument: If the example does not fit, or the operator cannot be exported.
        """
        entries = self.spec["inputs"]
        example = named_inputs(entries, values, inputs) if values or inputs else {}
        check_shapes(entries, example)
        weight = next(self.parameters(), torch.empty(0))
        moved = {key: self._moved(v, weight) for key, v in example.items()}
        return export(self.network, entries, moved)

    @takes(walks=whole)
    def solve(
        self,
        domain: Domain,
        problem: Dirichlet,
        points: Tensor,
        *,
        walks: int = 0,
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """Return the solutions of B elliptic problems at any points of their domains.

        The operator is shown its own grid or cloud of points; with `walks` its values are replaced
        by unbiased ones, see `sciml.pretrained.elliptic.corrections`. Domains anywhere, of any size
        and unit, are moved and scaled to what training covered, see `placed` there; values and
        error bars are those at the given points. Values are differentiable in all that the domains,
        the equation and the points are made from and that requires gradients.

        Args:
            domain: B domains (`sciml.physics.geometry`).
            problem: Their equation (`sciml.physics.walks.spheres.Dirichlet`).
            points: `(B, P, d)` inside the domains, anything `torch.as_tensor` takes.
            walks: Walks from every point, at least 2; 0 for the operator alone.
            seed: Of the walks.

        Returns:
            "value" `(B, P)`; with walks also "standard_error", and "model", the operator's value.

        Raises:
            InvalidArgument: If this is no elliptic operator, points are outside, the equation is
                not the operator's, or derivatives of walks are asked for.
            InvalidType: If these are no domain and no equation.
            PretrainedError: If a value is not finite.

        Warns:
            RangeWarning: If domains or coefficients are still unlike those in training, with what
                walks that make sure would take.

        Example:
            >>> import sciml
            >>> from sciml.physics import Dirichlet
            >>> from sciml.physics.geometry import Ball
            >>> operator = sciml.load_pretrained("wos_poisson2d")
            >>> problem, points = Dirichlet(lambda x, i: x[0]), [[[0.5, 0.0], [0.0, 0.0]]]
            >>> u = operator.solve(Ball(1.0, (0.0, 0.0)), problem, points)["value"]  # u = x
            >>> [abs(round(v, 1)) for v in u[0].tolist()]
            [0.5, 0.0]
        """
        return elliptic.solve(self.network, self.spec, domain, problem, points, walks, seed)

    def verify(
        self,
        domain: Domain,
        problem: Dirichlet,
        *,
        points: int = 256,
        walks: int = 256,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> Verification:
        """Return how wrong the operator is on one problem of one's own, by walks.

        Args:
            domain: One domain.
            problem: Its equation.
            points: Random points of the domain, at least 8; the interval is over them.
            walks: Walks from each.
            confidence: Of the intervals.
            seed: Of points and walks.

        Returns:
            The relative L2 error with an interval, the root mean square error in the problem's own
            unit, and the points that look worst, walked to again.

        Raises:
            InvalidArgument: As `solve` does, and for more than one domain.

        Example:
            >>> import sciml
            >>> from sciml.physics import Dirichlet
            >>> from sciml.physics.geometry import Ellipse
            >>> operator = sciml.load_pretrained("wos_poisson2d")
            >>> domain, problem = Ellipse((1.2, 0.8)), Dirichlet(lambda x, i: x[0])
            >>> operator.verify(domain, problem, points=32, walks=32).rel_l2.value < 0.2
            True
        """
        sizes = {"points": points, "walks": walks, "confidence": confidence, "seed": seed}
        return elliptic.verify_own(self.network, self.spec, domain, problem, **sizes)

    def _infer(
        self, inputs: Mapping[str, Tensor], device: torch.device, correct: int = 0, seed: int = 0
    ) -> dict[str, Tensor]:
        asked = torch.is_grad_enabled() and any(v.requires_grad for v in inputs.values())
        with torch.set_grad_enabled(asked):
            found = self.network.infer(**inputs)
        check_finite(found)
        if correct:
            if asked:
                raise InvalidArgument(
                    f"correct={correct} where derivatives are asked for",
                    "correct=0, whose values have derivatives, or inputs that require none",
                    "Walks are random numbers without derivatives: predict under torch.no_grad()",
                )
            found = elliptic.correct_grid(self.network, inputs, found, correct, seed)
        return {key: value.to(device) for key, value in found.items()}

    @staticmethod
    def _moved(value: Tensor, weight: Tensor) -> Tensor:
        """Return an input in the network's precision, on its device."""
        kind = weight.dtype.to_real() if value.is_floating_point() else value.dtype
        return value.to(weight.device, kind)

    def findings(self, given: Mapping[str, Tensor]) -> list[str]:
        """Return what lies outside the ranges that training covered, in sentences.

        Args:
            given: Inputs by name; signed distances on the operator's grid show its domains.
        """
        return outside_inputs(self.spec["inputs"], given, getattr(self.network, "half", None))

    def _warn_of_ranges(self, given: Mapping[str, Tensor]) -> None:
        for finding in self.findings(given):
            warnings.warn(finding, RangeWarning, stacklevel=3)
