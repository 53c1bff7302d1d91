"""An exponential moving average of the weights that a resumed run ends with as any other does."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch import callbacks


class EMAWeightAveraging(callbacks.EMAWeightAveraging):
    """Lightning's, also where the checkpoint is one of the last step.

    When training ends the average becomes the network, which is then tested and exported. A run
    that was killed after its last checkpoint has no step left to make, and Lightning calls no end
    of training: it would test and export the weights of the last step.

    Example:
        >>> from sciml.callbacks import EMAWeightAveraging
        >>> EMAWeightAveraging(decay=0.98).state_key
        'EMAWeightAveraging'
    """

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the average the network; nothing changes where it is already."""
        self._copy_average_to_current(pl_module)
