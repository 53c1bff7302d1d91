"""The smallest run with everything the command line looks at: a line fitted to noisy points."""

from typing import Literal

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from sciml.errors import InvalidArgument
from sciml.physics.pde import PDE


class Problem(PDE):
    """A line in `dim` dimensions."""

    order = 2
    time_dependent = False

    def __init__(self, *, dim: int, noise: float = 0.1, law: Literal["a", "b"] = "a"):
        if dim < 1:
            raise InvalidArgument(f"problem.dim={dim}", "a positive integer")
        self.dim, self.noise = dim, noise


class FourthOrder(Problem):
    order = 4


class Network(torch.nn.Linear):
    def __init__(self, *, dim: int, time: bool, features: int, bias: bool = True):
        super().__init__(dim, 1, bias=bias)


class Steps(IterableDataset):
    def __iter__(self):
        yield from iter(lambda: torch.zeros(1), None)


class Data(pl.LightningDataModule):
    def __init__(self, *, problem: Problem, points: int = 8, seed: int = 0):
        super().__init__()

    def train_dataloader(self):
        return DataLoader(Steps(), batch_size=None)

    def test_dataloader(self):
        return DataLoader([torch.zeros(1)], batch_size=None)


class Module(pl.LightningModule):
    """Draws its points from the step and its dropout from the global stream."""

    def __init__(self, *, problem, network, optimizer, schedule=None, inputs: list[str] = ("x",)):
        super().__init__()
        self.problem, self.network = problem, network
        self.make_optimizer, self.make_schedule = optimizer, schedule

    def training_step(self, batch, batch_idx):
        step = self.global_step
        x = torch.randn(8, self.problem.dim, generator=torch.Generator().manual_seed(step))
        y = self.network(torch.nn.functional.dropout(x, 0.2))
        loss = (y[:, 0] - x.sum(1)).square().mean()
        self.log("train/loss", loss)
        return loss

    def test_step(self, batch, batch_idx):
        self.log("test/rel_l2", (self.network.weight - 1).norm() / self.problem.dim**0.5)

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self.parameters())
        if self.make_schedule is None:
            return optimizer
        schedule = {"scheduler": self.make_schedule(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}
