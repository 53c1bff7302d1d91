"""Prediction with a trained operator: inputs checked against its schema, chunks, range warnings.

A network says what it takes and returns:

    schema() -> {"inputs": {"f": {"shape": ["N", "H", "W"], "unit": "1", "dtype": "float"}},
                 "outputs": {"value": {"shape": ["N", "H", "W"], "unit": "1"}}}

Numbers are fixed sizes, letters free ones; equal letters must be equal sizes. Inputs that begin
with "N" are independent samples along that axis and may be evaluated in chunks. An input with
`"optional": true` may be left out. `infer(**inputs)` returns the outputs in physical units.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sciml.arguments import maybe, takes, whole
from sciml.errors import (
    InvalidArgument,
    InvalidType,
    PretrainedError,
    RangeWarning,
    did_you_mean,
)
from sciml.pretrained import distance_checks
from sciml.pretrained.predictor import check_finite

if TYPE_CHECKING:
    from sciml.physics.elliptic.elliptic_problem import Dirichlet
    from sciml.physics.geometry import Domain
    from sciml.physics.walks.verification import Verification

RANGE_SLACK = 0.02  # of the width of a range: its ends were found by sampling
# Numbers in the largest input of one chunk: operators on grids hold some 300 more for each of them,
# 1 kB, so 150 MB at once on the CPU, where larger chunks are slower as well.
# And samples in a chunk, for networks with a grid inside that their inputs do not show.
CHUNK_CPU, CHUNK_DEVICE = (2**17, 128), (2**21, 2048)


def check_schema(network: nn.Module, spec: Mapping) -> None:
    """Refuse a description whose inputs and outputs are not those of the network it names.

    Raises:
        PretrainedError: Naming the entry.
    """
    for side, entries in network.schema().items():
        found = spec[side]
        if set(found) != set(entries):
            raise PretrainedError(
                f"model.json lists the {side} {sorted(found)}", f"{sorted(entries)}"
            )
        for name, entry in entries.items():
            same = isinstance(found[name], dict) and all(
                found[name].get(key) == value for key, value in entry.items()
            )
            if not same:
                raise PretrainedError(
                    f"model.json describes '{name}' as {str(found[name])[:80]}", f"{entry}"
                )
            _check_ranges_entry(name, found[name].get("ranges", {}))


def _check_ranges_entry(name: str, ranges: object) -> None:
    for value in ranges.values() if isinstance(ranges, dict) else [None]:
        plain = isinstance(value, list) and len(value) == 2
        if not plain or not all(isinstance(v, int | float) and math.isfinite(v) for v in value):
            raise PretrainedError(
                f"model.json gives '{name}' the range {str(value)[:40]}", "[low, high]"
            )


class PretrainedOperator(nn.Module):
    """A trained operator with its description.

    Attributes:
        network: The network, with gradients in its inputs but none in its weights.
        spec: The content of `model.json`.
    """

    def __init__(self, network: nn.Module, spec: Mapping) -> None:
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
        self, *values, chunk: int | None = None, correct: int = 0, seed: int = 0, **inputs
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
        if correct:
            from sciml.pretrained.trained_elliptic import check_correctable

            check_correctable(self, correct)
        given = self._named(values, inputs)
        free = self._check_shapes(given)
        self._check_derivatives(given)
        fixed = {key: value.detach() for key, value in given.items()}
        self._check_meaning(fixed)
        self._check_ranges(fixed)
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
        split = [key for key in moved if self.spec["inputs"][key]["shape"][0] == "N"]
        parts = []
        for start in range(0, n, chunk):
            piece = {key: moved[key][start : start + chunk] for key in split}
            parts.append(self._infer({**moved, **piece}, device, correct, seed + start))
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    @takes(steps=whole)
    def rollout(self, steps: int, *values, **inputs) -> dict[str, Tensor]:
        """Return the next states of a trajectory, each predicted from those before.

        Args:
            steps: States wanted, at least 1.
            values: Inputs in the order of the card: what is known at first.
            inputs: The same by name.

        Returns:
            The outputs that the card lists, with an axis of `steps` times behind the samples, on
            the device of the first input.

        Raises:
            InvalidArgument: If the inputs do not fit, or the operator was not trained on
                trajectories.
            PretrainedError: If a state is not finite: the roll-out has become unstable.

        Example:
            >>> op.rollout(100, u=first)["u"]  # first (N, H) -> (N, 100, H)
        """
        if steps < 1:
            raise InvalidArgument(f"steps={steps}", "a positive number of states")
        if not hasattr(self.network, "rollout"):
            raise InvalidArgument(
                f"a roll-out of {type(self.network).__name__}",
                "an operator trained on trajectories",
                "Use predict",
            )
        given = self._named(values, inputs)
        self._check_shapes(given)
        self._check_ranges(given)
        device = next(iter(given.values())).device
        weight = next(self.parameters(), torch.empty(0))
        with torch.no_grad():
            moved = {key: self._moved(v, weight) for key, v in given.items()}
            found = self.network.rollout(steps, **moved)
        check_finite(found)
        return {key: value.to(device) for key, value in found.items()}

    def export(self, *values, **inputs) -> torch.export.ExportedProgram:
        """Return the operator as a program of torch alone; see `sciml.pretrained.exported`.

        Args:
            values: An example of the inputs, as for `predict`: all sizes but the number of samples
                stay those of the example. May be left out by operators that know their grid.
            inputs: The same by name.

        Raises:
            InvalidArgument: If the example does not fit, or the operator cannot be exported.
        """
        from sciml.pretrained.exported import export

        example = self._named(values, inputs) if values or inputs else {}
        self._check_shapes(example)
        weight = next(self.parameters(), torch.empty(0))
        return export(self, {key: self._moved(v, weight) for key, v in example.items()})

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
        by unbiased ones, see `sciml.pretrained.trained_elliptic`. Domains anywhere, of any size and
        unit, are moved and scaled to what training covered (`sciml.pretrained.placed`); values and
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
            >>> disk = Ball(1.0, (0.0, 0.0))
            >>> u = operator.solve(disk, Dirichlet(lambda x, i: x[0]), points, walks=64)
        """
        from sciml.pretrained.trained_elliptic import solve

        return solve(self, domain, problem, points, walks, seed)

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
            >>> operator.verify(Ellipse((1.2, 0.8)), problem).rel_l2
        """
        from sciml.pretrained.trained_elliptic import verify_own

        return verify_own(
            self, domain, problem, points=points, walks=walks, confidence=confidence, seed=seed
        )

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
            from sciml.pretrained.trained_elliptic import correct_grid

            found = correct_grid(self, inputs, found, correct, seed)
        return {key: value.to(device) for key, value in found.items()}

    @staticmethod
    def _moved(value: Tensor, weight: Tensor) -> Tensor:
        """Return an input in the network's precision, on its device."""
        kind = weight.dtype.to_real() if value.is_floating_point() else value.dtype
        return value.to(weight.device, kind)

    # --- checks -------------------------------------------------------------------------------
    def _named(self, values: tuple, inputs: Mapping[str, object]) -> dict[str, Tensor]:
        known = self.spec["inputs"]
        if len(values) > len(known):
            raise InvalidArgument(f"{len(values)} inputs", f"at most {len(known)}: {list(known)}")
        named = dict(zip(known, values, strict=False))
        for name in inputs:
            if name not in known:
                raise InvalidArgument(
                    f"an input '{name}'", f"{list(known)}", did_you_mean(name, known)
                )
            if name in named:
                raise InvalidArgument(f"'{name}' twice", "every input once")
        named |= inputs
        named = {key: value for key, value in named.items() if value is not None}
        missing = [k for k, e in known.items() if k not in named and not e.get("optional")]
        if missing:
            raise InvalidArgument(f"no {' and no '.join(missing)}", f"the inputs {list(known)}")
        return {key: _tensor(key, named[key], known[key]) for key in known if key in named}

    def _check_shapes(self, given: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the sizes that the letters stand for."""
        free: dict[str, int] = {}
        for name, value in given.items():
            wanted = self.spec["inputs"][name]["shape"]
            fits = value.dim() == len(wanted)
            for size, axis in zip(value.shape, wanted, strict=False):
                fits &= size == (free.setdefault(axis, size) if isinstance(axis, str) else axis)
                fits &= size > 0 or axis == "edges"  # a graph may have no edges
            if not fits:
                known = {k: v for k, v in free.items() if k in wanted}
                said = f" with {', '.join(f'{k} = {v}' for k, v in known.items())}" if known else ""
                raise InvalidArgument(
                    f"{name} has shape {tuple(value.shape)}",
                    f"({', '.join(map(str, wanted))}){said}, at least one entry",
                )
        return free

    def _check_ranges(self, given: Mapping[str, Tensor]) -> None:
        for finding in self.findings(given):
            warnings.warn(finding, RangeWarning, stacklevel=3)

    def _check_meaning(self, given: Mapping[str, Tensor]) -> None:
        """Look at arrays that stand for a domain: whether they are what their names say."""
        if "sdf" in given and hasattr(self.network, "half"):
            distance_checks.check_distance(given["sdf"], float(self.network.half))
            if "boundary" in given:
                distance_checks.check_boundary(
                    given["sdf"], given["boundary"], float(self.network.half)
                )
        elif {"points", "distance"} <= given.keys():
            distance_checks.check_cloud(given["points"], given["distance"])

    @staticmethod
    def _check_derivatives(given: Mapping[str, Tensor]) -> None:
        """Refuse derivatives with respect to clouds: which points are neighbours has none."""
        moving = [name for name in ("points", "distance") if name in given]
        asked = [name for name in moving if given[name].requires_grad]
        if len(moving) == 2 and asked and torch.is_grad_enabled():
            raise InvalidArgument(
                f"derivatives with respect to {' and '.join(asked)} of a cloud",
                "derivatives with respect to data, such as boundary and source",
                "They would be partial ones, with neighbours held fixed: operators on grids have "
                f"whole ones. Pass {' and '.join(f'{name}.detach()' for name in asked)}, or call "
                "predict under torch.no_grad()",
            )

    def findings(self, given: Mapping[str, Tensor]) -> list[str]:
        """Return what lies outside the ranges that training covered, in sentences.

        Args:
            given: Inputs by name; signed distances on the operator's grid show its domains.
        """
        found = []
        for name, value in given.items():
            ranges = self.spec["inputs"][name].get("ranges", {})
            more = ranges.keys() - {"value"}
            seen = distance_checks.described(name, value, self.network.half if more else None)
            for quantity, (low, high) in ranges.items():
                if quantity not in seen:
                    continue
                least, greatest = float(seen[quantity].min()), float(seen[quantity].max())
                slack = RANGE_SLACK * (high - low) + 1e-6 * max(abs(low), abs(high))
                if least < low - slack or greatest > high + slack:
                    what = name if quantity == "value" else distance_checks.WORDS[quantity]
                    found.append(
                        f"{what} covers [{least:.4g}, {greatest:.4g}]; training covered "
                        f"[{low:.4g}, {high:.4g}]. Values outside are extrapolated."
                    )
        return found


def _tensor(name: str, value: object, entry: Mapping) -> Tensor:
    """Return an input as a tensor of the right kind of numbers."""
    try:
        value = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = hasattr(value, "signed_distance")
        hint = "For domains and equations use solve(domain, problem, points)" if shape else ""
        raise InvalidType(
            f"{name} is a {type(value).__name__} ({error})", "an array", hint
        ) from error
    if entry.get("dtype", "float") == "int":
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise InvalidType(f"{name} has dtype {value.dtype}", "integers")
        return value.long()
    if value.dtype == torch.bool and entry.get("cast"):  # a mask stands for the numbers 0 and 1
        value = value.to(torch.get_default_dtype())
    if value.is_complex() or value.dtype == torch.bool:
        raise InvalidType(f"{name} has dtype {value.dtype}", "real numbers")
    value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise InvalidArgument(
            f"{name} is not finite in {bad} of {value.numel()} entries", "numbers"
        )
    return value
