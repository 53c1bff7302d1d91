"""A run of ten steps with everything a callback looks at."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    """Batches of 8 points drawn from (seed, position)."""

    def __iter__(self):
        for step in range(10_000):
            yield torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


class Module(pl.LightningModule):
    """Fits a constant; `bad_step` makes the term "boundary" of that step not finite."""

    def __init__(self, bad_step=None, bad_value=float("nan")):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.bad_step, self.bad_value = bad_step, bad_value
        self.last_terms = {}
        self.test_report = {}

    def training_step(self, batch, batch_idx):
        residual = (self.layer(batch) ** 2).mean()
        boundary = 0.1 * (self.layer(0 * batch) - 1).pow(2).mean()
        if self.global_step == self.bad_step:
            boundary = boundary * self.bad_value
        self.last_terms = {"residual": residual.detach(), "boundary": boundary.detach()}
        loss = residual + boundary
        self.log("train/loss", loss)
        for name, value in self.last_terms.items():
            self.log(f"train/{name}", value)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/rel_l2", self.layer.weight.norm())

    def test_step(self, batch, batch_idx):
        self.log("test/rel_l2", 0.5)

    def on_test_end(self):
        s = torch.linspace(0, 1, 20)
        self.test_report = {
            "reference": torch.linspace(1, 2, 50),
            "prediction": torch.linspace(1, 2.01, 50),
            "baselines": {"constant": 0.07, "closed_form": 0.0031},
            "metrics": {"test/skill": 0.03},
            "ray": {"s": s, "prediction": s, "reference": s**2, "label": "s"},
        }

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


@pytest.fixture
def module():
    return Module


@pytest.fixture
def make_trainer(tmp_path):
    """Return a function that builds a quiet trainer writing metrics.csv into tmp_path."""

    def build(*callbacks, max_steps=10, **options):
        return pl.Trainer(
            max_steps=max_steps,
            accelerator="cpu",
            callbacks=list(callbacks),
            enable_progress_bar=any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks),
            enable_model_summary=False,
            enable_checkpointing=any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
            logger=pl.loggers.CSVLogger(tmp_path, name="", version=""),
            log_every_n_steps=options.pop("log_every_n_steps", 2),
            default_root_dir=tmp_path,
            **options,
        )

    return build


@pytest.fixture
def batches():
    return DataLoader(Stream(), batch_size=None)


@pytest.fixture
def few_batches():
    return DataLoader([torch.ones(8, 3)] * 2, batch_size=None)
