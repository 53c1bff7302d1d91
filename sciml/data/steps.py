"""Data modules whose batches are functions of (seed, rank, step), made where they are used.

The loaders only count. A resumed run makes the batches that the interrupted one would have made,
and no generator state is saved; the step counter is. Validation and test sets come in chunks that
ranks share; what is in a chunk does not depend on the number of ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from sciml.data.batch import Batch
from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed


class Counter(IterableDataset):
    """Counts 0, 1, ... to `length`, or for ever."""

    def __init__(self, length: int | None = None) -> None:
        self.length = length

    def __iter__(self) -> Iterator[int]:
        """Count."""
        step = 0
        while self.length is None or step < self.length:
            yield step
            step += 1


class Counted(LightningDataModule):
    """Counters for loaders, and the step counter in checkpoints; subclasses fill batches in.

    Attributes:
        drawn: Training batches made so far.
        fixed_for: Steps for which a training batch stays the same.
    """

    fixed_for: int = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor of every subclass refuse arguments of another type than it names."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            typed(cls)

    def __init__(self) -> None:
        super().__init__()
        self.drawn = 0

    def train_dataloader(self) -> DataLoader:
        """Return an endless loader of step numbers."""
        return DataLoader(Counter(), batch_size=None)

    def next_step(self) -> int:
        """Return the number that names the next training batch, and count it."""
        step, self.drawn = self.drawn // self.fixed_for, self.drawn + 1
        return step

    def device(self) -> torch.device:
        """Return where the module being trained lives, the CPU without one."""
        module = self.trainer.lightning_module if self.trainer else None
        return module.device if module is not None else torch.device("cpu")

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches drawn so far."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue after the batches drawn so far."""
        self.drawn = state_dict["drawn"]


class StepData(Counted, ABC):
    """Training, validation and test batches of a data-driven method.

    A subclass sets the attributes and says what the batches are.

    Args:
        seed: Seed of all training batches.
        fixed_for: Steps for which a training batch stays the same; 1 for a fresh one each step.

    Attributes:
        kind: What the target is.
        sizes: What the network's constructor is told, for arguments the configuration leaves out.
        unit: Unit of the target in pictures and cards.
        names: Names of the classes or of the target's components, where they have names.
        plane: Of fields `(n, nx, ny)`, for pictures: "extent" (left, right, bottom, top), "xlabel",
            "ylabel"; empty where the axes have no meaning.
        points_differ: Whether samples `(B, P, C)` have points of their own, so that scores and the
            best constant are over points.

    Example:
        >>> import torch
        >>> from sciml.autodiff.streams import Streams
        >>> from sciml.data import StepData
        >>> from sciml.data.batch import Batch
        >>> class Squares(StepData):  # learns x^2 from fresh numbers in every step
        ...     def batch(self, step, rank=0, world=1):
        ...         streams = Streams(self.seed, step, rank, world)
        ...         x = torch.rand(8, 1, generator=streams.generator("points"))
        ...         return Batch({"x": x}, x**2, streams, 8 * world)
        ...     val_chunks = test_chunks = 1
        ...     def val_chunk(self, index):
        ...         return self.batch(0)
        ...     test_chunk = val_chunk
        >>> data = Squares(seed=1)
        >>> first, again, next_one = (data.batch(step).target for step in (0, 0, 1))
        >>> bool((first == again).all()), bool((first == next_one).all())
        (True, False)
    """

    kind: Literal["regression", "classification"] = "regression"
    sizes: dict[str, Any] = {}
    unit: str = "1"
    names: tuple[str, ...] = ()
    plane: dict[str, Any] = {}
    points_differ: bool = False

    def __init__(self, *, seed: int = 0, fixed_for: int = 1) -> None:
        super().__init__()
        if fixed_for < 1:
            raise InvalidArgument(f"data.fixed_for={fixed_for}", "a positive integer")
        self.seed, self.fixed_for = seed, fixed_for

    # --- what a subclass says ---------------------------------------------------------------
    @abstractmethod
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the training batch of a step on a rank: the same for the same arguments."""

    @property
    @abstractmethod
    def val_chunks(self) -> int:
        """Number of chunks of the validation set."""

    @abstractmethod
    def val_chunk(self, index: int) -> Batch:
        """Return a chunk of the validation set."""

    @property
    @abstractmethod
    def test_chunks(self) -> int:
        """Number of chunks of the test set."""

    @abstractmethod
    def test_chunk(self, index: int) -> Batch:
        """Return a chunk of the test set."""

    def example(self) -> dict[str, Tensor]:
        """Return a few inputs, for the card of the trained network and for tests."""
        return self.val_chunk(0).inputs

    # --- loaders ----------------------------------------------------------------------------
    def val_dataloader(self) -> DataLoader:
        """Return a counter over this rank's chunks of the validation set."""
        return self._shared(self.val_chunks)

    def test_dataloader(self) -> DataLoader:
        """Return a counter over this rank's chunks of the test set."""
        return self._shared(self.test_chunks)

    def _shared(self, chunks: int) -> DataLoader:
        world = self.trainer.world_size if self.trainer else 1
        return DataLoader(Counter(-(-chunks // world)), batch_size=None)

    def on_after_batch_transfer(self, batch: int, dataloader_idx: int) -> Batch | None:
        """Replace the number by the batch; None on ranks past the last chunk."""
        trainer = self.trainer
        rank, world = trainer.global_rank, trainer.world_size
        if trainer.training:
            made = self.batch(self.next_step(), rank, world)
        else:
            index = int(batch) * world + rank
            testing = trainer.testing
            if index >= (self.test_chunks if testing else self.val_chunks):
                return None
            made = self.test_chunk(index) if testing else self.val_chunk(index)
        module = trainer.lightning_module
        return made.to(module.device, module.dtype)
