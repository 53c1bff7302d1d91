"""What training points cover together, where each coordinate and the time alone say too little.

Points x at time t are summarised by few numbers: |x|, the sums of x_i and of |x_i| over the root of
d, the largest |x_i|, and in up to three dimensions the coordinates. Their law moves with time: it
is known at a few times, the knots, and interpolated between them. Two questions are asked.

Is a point farther out than any training point was? At every knot mean and covariance of the
summaries give a distance (Mahalanobis 1936), and the largest distance of a training point is how
far training went: an ellipsoid that moves with time. A point may lie in the range of |x| and in
that of t and still be where no training point was, such as far out at a time when all of them were
close, or have a direction that random ones never have.

Is a point outside most training points, though its |x| is a common one at other times? One in
`RARE` training points of its time had a larger |x|. Among many points some are rare by chance, so
it is their number that is judged. Where the law does not depend on time, as in a box, no |x| is
common and rare at once, and nothing is said about its corners.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from sciml.errors import PretrainedError

INTERVALS = 8  # of time, between knots
FEWEST = 64  # points around a knot, for a covariance
ENOUGH = 1024  # points in an interval; fewer intervals where there are fewer points
COORDINATES = 3  # up to so many dimensions coordinates count themselves
RIDGE = 1e-6  # of the mean variance: in one dimension the summaries are the same number
SLACK = 1.1  # of the largest distance: it was found by sampling
RARE = 1000  # one in so many training points is beyond what is called rare
EARLIER = {"times", "mean", "whiten", "limit"}  # of intervals instead of knots
LEVEL = 0.003  # probability of as many rare points among ones of the training law


@dataclass(frozen=True)
class Joint:
    """What training points cover together, as plain numbers.

    Attributes:
        times: The knots `(K,)`.
        mean: Mean of the summaries at every knot `(K, k)`.
        whiten: Inverse of a Cholesky factor of their covariance `(K, k, k)`.
        limit: Largest distance of a training point around every knot `(K,)`.
        radius: |x| above which training points are rare at every knot `(K,)`.
        usual: The same of all training points, at any time `()`.
        share: Share of the training points that are rare `()`.
    """

    times: list
    mean: list
    whiten: list
    limit: list
    radius: list
    usual: float
    share: float

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            PretrainedError: If they do not fit each other.
        """
        count = len(self.times) if isinstance(self.times, list) else 0
        try:
            k = len(self.mean[0])
            parts = [torch.tensor(getattr(self, f.name), dtype=torch.float64) for f in fields(self)]
        except (TypeError, ValueError, IndexError, RuntimeError):
            parts, k = [], 0
        shapes = [(count,), (count, k), (count, k, k), (count,), (count,), (), ()]
        if [tuple(part.shape) for part in parts] != shapes or not all(
            bool(part.isfinite().all()) for part in parts
        ):
            raise PretrainedError(
                "model.json describes the joint range of the training points with other numbers",
                f"finite numbers of the shapes {shapes} under {[f.name for f in fields(self)]}",
                "Remove 'joint' from the input x to do without",
            )

    @classmethod
    def read(cls, found: object) -> Joint | None:
        """Return what `model.json` says, None where it says nothing or what it once did.

        Raises:
            PretrainedError: If it says something else.
        """
        if found is None or (isinstance(found, dict) and found.keys() == EARLIER):
            return None
        names = {f.name for f in fields(cls)}
        if not isinstance(found, dict) or found.keys() != names:
            said = sorted(found) if isinstance(found, dict) else str(found)[:40]
            raise PretrainedError(
                f"model.json describes a joint range by {said}", f"{sorted(names)}"
            )
        return cls(**found)

    def distance(self, rows: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distances `(N,)` of summaries, and the largest of training at their times."""
        place, after = self._place(time)
        away = rows - self._between("mean", place, after)
        away = (self._between("whiten", place, after) @ away[..., None])[..., 0]
        return away.square().sum(1).sqrt(), self._between("limit", place, after)

    def rare(self, rows: Tensor, time: Tensor) -> Tensor:
        """Return which `(N,)` have an |x| that is rare at their time and common at others."""
        size = rows[:, 0]
        return (size > self._between("radius", *self._place(time))) & (size < self.usual)

    def _place(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return the knot before each time and how far it is on the way to the next, 0 to 1."""
        knots = torch.tensor(self.times, dtype=time.dtype, device=time.device)
        if len(knots) == 1:
            return torch.zeros_like(time, dtype=torch.long), torch.zeros_like(time)
        place = torch.bucketize(time, knots[1:-1])
        before, width = knots[place], (knots[1:] - knots[:-1])[place]
        return place, ((time - before) / width).clamp(0.0, 1.0)

    def _between(self, name: str, place: Tensor, after: Tensor) -> Tensor:
        values = torch.tensor(getattr(self, name), dtype=after.dtype, device=after.device)
        after = after.view(-1, *[1] * (values.ndim - 1))
        return torch.lerp(values[place], values[(place + 1).clamp_max(len(values) - 1)], after)


def summary(x: Tensor) -> Tensor:
    """Return the numbers `(N, k)`, in float64, that points `x (N, d)` are judged by."""
    x = x.double()
    d = x.shape[1]
    size = torch.linalg.vector_norm(x, dim=1)
    parts = [size, x.sum(1) / d**0.5, x.abs().sum(1) / d**0.5, x.abs().amax(1)]
    return torch.stack([*parts, *(x.unbind(1) if d <= COORDINATES else ())], 1)


def joint_range(x: Tensor, t: Tensor | None = None) -> dict[str, Any] | None:
    """Return what training points cover together, as plain numbers.

    Means are fitted at all knots at once, by functions that are linear between these, so that the
    first and the last are those of the very ends of time.

    Args:
        x: Points `(N, d)`.
        t: Times `(N, 1)` or None.

    Returns:
        The content of a `Joint`. None where a knot has too few points.
    """
    rows = summary(x)
    time = torch.zeros_like(rows[:, 0]) if t is None else t[:, 0].double()
    still = bool(time.min() == time.max())
    count = 0 if still else max(1, min(INTERVALS, len(rows) // ENOUGH))
    knots = torch.linspace(float(time.min()), float(time.max()), count + 1, dtype=torch.float64)
    width = (knots[-1] - knots[0]) / max(count, 1)
    share = 1.0 - (time[:, None] - knots).abs() / width.clamp_min(1e-300)
    share = share.clamp_min(0.0) if count else torch.ones_like(share)  # of each knot (N, K)
    near = share > 0.5  # nearer than any other knot
    if int(near.sum(0).min()) < FEWEST:
        return None
    # not gelsy, the default: it starts from pivots that nobody set, and two runs would differ
    mean = torch.linalg.lstsq(share, rows, driver="gelsd").solution
    away = rows - share @ mean
    spread = torch.einsum("nk,ni,nj->kij", share, away, away) / share.sum(0)[:, None, None]
    ridge = RIDGE * spread.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-300)
    eye = torch.eye(rows.shape[1], dtype=rows.dtype)
    whiten = torch.linalg.inv(torch.linalg.cholesky(spread + ridge[:, None, None] * eye))
    most = 1.0 - 1.0 / RARE
    found = Joint(
        times=knots.tolist(),
        mean=mean.tolist(),
        whiten=whiten.tolist(),
        limit=[0.0] * (count + 1),
        radius=[float(mean[k, 0] + away[near[:, k], 0].quantile(most)) for k in range(count + 1)],
        usual=float(rows[:, 0].quantile(most)),
        share=0.0,
    )
    far = found.distance(rows, time)[0]
    limit = [float(far[near[:, k]].max()) for k in range(count + 1)]
    rare = float(found.rare(rows, time).double().mean()) if count else 0.0
    return asdict(replace(found, limit=limit, share=max(rare, 1.0 / len(rows))))


def beyond(joint: Joint, x: Tensor, t: Tensor | None = None) -> Tensor:
    """Return which points `(N,)` are farther from the training points than any of these.

    Args:
        joint: What training covered.
        x: Points `(N, d)`.
        t: Times `(N, 1)` or None.
    """
    distance, limit = joint.distance(*judged(x, t))
    return distance > SLACK * limit


def rare(joint: Joint, x: Tensor, t: Tensor | None = None) -> Tensor:
    """Return which points `(N,)` have a larger |x| than nearly all training points of their time.

    None of them where chance explains their number.

    Args:
        joint: What training covered.
        x: Points `(N, d)`.
        t: Times `(N, 1)` or None.
    """
    rows, time = judged(x, t)
    if t is None:
        return torch.zeros_like(time, dtype=torch.bool)
    found = joint.rare(rows, time)
    count = found.sum()
    if not count:
        return found
    # Poisson's law: as many or more. The incomplete gamma function is its sum (DLMF 8.4.10).
    expected = torch.tensor(joint.share * len(rows), dtype=torch.float64, device=count.device)
    by_chance = torch.special.gammainc(count.double(), expected)
    return found if by_chance < LEVEL else torch.zeros_like(found)


def judged(x: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return summaries `(N, k)` and times `(N,)`, 0 without times, in float64."""
    rows = summary(x.detach())
    return rows, torch.zeros_like(rows[:, 0]) if t is None else t[:, 0].detach().double()
