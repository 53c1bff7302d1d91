"""Running means of walk estimates at fixed points: labels that improve from epoch to epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.errors import CheckpointError, InvalidArgument
from sciml.physics.walks.estimate import Estimate


class LabelCache:
    """Count, mean and squared deviations of all samples so far, per instance and point.

    Rows are keyed by the index of the instance in its data set, never by the position in a batch,
    and so survive shuffling. Under several ranks each instance belongs to one rank.

    Args:
        instances: Instances in the data set.
        points: Points per instance, the same ones at every visit.
        device: Where the cache lives.
    """

    def __init__(self, instances: int, points: int, device: torch.device | str = "cpu") -> None:
        shape = (instances, points)
        self.count = torch.zeros(instances, dtype=torch.int64, device=device)
        self.mean = torch.zeros(shape, dtype=torch.float64, device=device)
        self.squares = torch.zeros(shape, dtype=torch.float64, device=device)

    def update(self, instances: Tensor, estimate: Estimate) -> tuple[Tensor, Tensor]:
        """Add an estimate and return the mean of everything so far (Chan's update).

        Args:
            instances: `(B,)` indices of the estimate's domains in the data set, all different.
            estimate: New walks at the points of these instances.

        Returns:
            Mean and variance of the mean, each `(B, P)`; the variance is NaN with one sample.

        Raises:
            InvalidArgument: If shapes do not fit or an instance appears twice.
        """
        shape = (len(instances), self.mean.shape[1])
        if tuple(estimate.mean.shape) != shape:
            raise InvalidArgument(f"an estimate of shape {tuple(estimate.mean.shape)}", f"{shape}")
        if len(instances.unique()) != len(instances):
            raise InvalidArgument("an instance twice in one batch", "different instances")
        instances = instances.to(self.mean.device)
        old = self.count[instances][:, None]
        mean, squares = self.mean[instances], self.squares[instances]
        new = estimate.samples
        total = old + new
        change = estimate.mean.to(mean.device) - mean
        mean = mean + change * (new / total)
        squares = squares + estimate.squares.to(mean.device) + change**2 * (old * new / total)
        self.count[instances] = total[:, 0]
        self.mean[instances], self.squares[instances] = mean, squares
        variance = torch.where(total > 1, squares / (total * (total - 1).clamp_min(1)), torch.nan)
        return mean, variance

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as plain tensors."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`.

        Raises:
            CheckpointError: If entries are missing or of other shapes.
        """
        for name, own in self.state_dict().items():
            if name not in state or state[name].shape != own.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise CheckpointError(f"label cache '{name}': {found}", f"{tuple(own.shape)}")
            own.copy_(state[name])
