"""Prediction with a trained solution: checks, chunks, gradients, range warnings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sciml.arguments import flag, maybe, takes, whole
from sciml.errors import InvalidArgument, RangeWarning
from sciml.pretrained import elliptic
from sciml.pretrained.checks.arrays_given import check_finite, finite_points, real_tensor
from sciml.pretrained.checks.joint import RARE, Joint, beyond, rare
from sciml.pretrained.checks.training_ranges import outside, training_ranges

MAX_POINTS_PER_CHUNK = 8192


class PretrainedPINN(nn.Module):
    """A trained solution of a PDE with its description.

    Attributes:
        solution: The `TrialSolution`; `model.solution.problem` is the PDE.
        spec: The content of `model.json`.
        dim: Number of space dimensions d.
        time_dependent: Whether `predict` wants a time.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sciml.networks import MLP, TrialSolution
        >>> from sciml.physics import Poisson
        >>> from sciml.pretrained import load_pretrained, save_pretrained, training_ranges
        >>> sizes = {"dim": 3, "width": 8, "depth": 2}
        >>> solution = TrialSolution(Poisson(dim=3), MLP(**sizes), ["x"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save_pretrained(
        ...         f"{folder}/mine", solution, name="mine",
        ...         ranges=training_ranges(torch.rand(64, 3)),
        ...         problem={"class": "Poisson", "arguments": {"dim": 3}},
        ...         network={"class": "MLP", "arguments": sizes},
        ...     )
        ...     model = load_pretrained(f"{folder}/mine")
        >>> found = model.predict(torch.full((5, 3), 0.5))
        >>> {name: tuple(value.shape) for name, value in found.items()}
        {'value': (5,), 'gradient': (5, 3)}
    """

    def __init__(self, solution: nn.Module, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.solution, self.spec = solution.eval().requires_grad_(False), spec
        self.dim: int = solution.problem.dim
        self.time_dependent = bool(solution.problem.time_dependent)
        self.joint = Joint.read(spec["inputs"]["x"].get("joint"))

    @property
    def metrics(self) -> dict[str, float]:
        """Measured quality as recorded at save time."""
        return dict(self.spec["metrics"])

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return u `(N, 1)`, differentiable, without checks or chunks."""
        return self.solution(x, t)

    @takes(gradient=flag, chunk=maybe(whole), correct=whole, seed=whole)
    def predict(
        self,
        x: Tensor,
        t: Tensor | float | None = None,
        gradient: bool = True,
        chunk: int | None = None,
        correct: int = 0,
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """Return the solution and its space gradient in physical units.

        Args:
            x: Points `(N, d)`, anything `torch.as_tensor` takes.
            t: Times `(N, 1)` or `(N,)`, or one number for all points; None for a static problem.
            gradient: Whether to compute the gradient as well.
            chunk: Points evaluated at once; by default what keeps memory moderate.
            correct: Walks from every point that correct the solution of a linear elliptic equation:
                then `value` is unbiased, `standard_error` its error bar and `model` what the
                network says.
            seed: Of these walks.

        Returns:
            "value" `(N,)` and, if asked for, "gradient" `(N, d)`, on the device of `x` and in the
            precision of the weights. Both are differentiable if `x` or `t` requires gradients.

        Raises:
            InvalidArgument: If a shape is wrong, a time is missing or not wanted, or numbers are
                not finite.
            InvalidType: If `x` or `t` is not real.
        """
        x, t = self._check_points(x, t)
        self._check_ranges(x.detach(), None if t is None else t.detach())
        if chunk is None:
            chunk = max(16, min(MAX_POINTS_PER_CHUNK, 2**22 // self.dim))
        elif not isinstance(chunk, int) or chunk < 1:
            raise InvalidArgument(f"chunk={chunk!r}", "a positive number of points")
        weight = next(self.parameters(), torch.empty(0))
        target, device = {"device": weight.device, "dtype": weight.dtype.to_real()}, x.device
        whole = x
        x = x.split(chunk)
        t = (None,) * len(x) if t is None else t.split(chunk)
        parts = [
            self._evaluate(*(None if v is None else v.to(**target) for v in pair), gradient)
            for pair in zip(x, t, strict=True)
        ]
        found = {key: torch.cat([p[key] for p in parts]).to(device) for key in parts[0]}
        check_finite(found)
        if correct:
            if found["value"].requires_grad:
                raise InvalidArgument(
                    f"correct={correct} where derivatives are asked for",
                    "correct=0, whose values have derivatives, or points that require none",
                    "Walks are random numbers without derivatives: predict under torch.no_grad()",
                )
            found |= elliptic.correct_solution(self.solution, whole, found["value"], correct, seed)
        return found

    def _evaluate(self, x: Tensor, t: Tensor | None, gradient: bool) -> dict[str, Tensor]:
        asked = torch.is_grad_enabled() and (x.requires_grad or (t is not None and t.requires_grad))
        with torch.inference_mode(False), torch.set_grad_enabled(gradient or asked):
            # inference tensors cannot require gradients: a caller may sit in inference mode
            x = x.clone().requires_grad_() if gradient else x
            t = t.clone() if t is not None and gradient else t
            value = self.solution(x, t)[:, 0]
            if not gradient:
                return {"value": value}
            (slope,) = torch.autograd.grad(value.sum(), x, create_graph=asked)
            return {"value": value if asked else value.detach(), "gradient": slope}

    def _check_points(self, x: Any, t: Any) -> tuple[Tensor, Tensor | None]:
        x = real_tensor("x", x)
        if x.ndim != 2 or x.shape[1] != self.dim or not len(x):
            raise InvalidArgument(
                f"x has shape {tuple(x.shape)}",
                f"(N, {self.dim}): one row per point, at least one row",
                f"For a single point write x[None], shape (1, {self.dim})"
                if tuple(x.shape) == (self.dim,)
                else "",
            )
        if not self.time_dependent:
            if t is not None:
                raise InvalidArgument(
                    "a time was given", "none: this problem is static", "Call predict(x)"
                )
            return finite_points("x", x), None
        if t is None:
            raise InvalidArgument(
                "no time was given", f"t of shape ({len(x)}, 1)", "Call predict(x, t)"
            )
        t = real_tensor("t", t).to(x.device)
        if t.numel() == 1:
            t = t.reshape(1, 1).expand(len(x), 1)
        if tuple(t.shape) not in ((len(x),), (len(x), 1)):
            raise InvalidArgument(
                f"t has shape {tuple(t.shape)}", f"({len(x)}, 1) for {len(x)} points, or one number"
            )
        return finite_points("x", x), finite_points("t", t.reshape(-1, 1))

    def _check_ranges(self, x: Tensor, t: Tensor | None) -> None:
        seen = training_ranges(x, t)
        for name, entry in self.spec["inputs"].items():
            for quantity, limits in entry.get("ranges", {}).items():
                if f"{name}.{quantity}" not in seen:
                    continue
                label = {"norm": f"|{name}|", "value": name}
                what = label.get(quantity, f"{quantity} of {name}")
                said = outside(what, *seen[f"{name}.{quantity}"], limits)
                if said:
                    warnings.warn(said, RangeWarning, stacklevel=3)
        if self.joint is None:
            return
        together = "x" if t is None else "x and t together"
        for found, what in (
            (beyond, f"are farther from the training points than any of these were, {together}"),
            (rare, f"have a larger |x| than all but one in {RARE} training points of their time"),
        ):
            odd = found(self.joint, x, t)
            if bool(odd.any()):
                first = int(odd.nonzero()[0, 0])
                where = f"|x| = {float(x[first].norm()):.4g}"
                where += "" if t is None else f" at t = {float(t[first]):.4g}"
                warnings.warn(
                    f"{int(odd.sum())} of {len(x)} points {what} ({where}). Values there are "
                    "extrapolated.",
                    RangeWarning,
                    stacklevel=3,
                )
                return
