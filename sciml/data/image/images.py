"""Image classification sets as data: digits, CIFAR, SVHN, MNIST.

Every epoch is one permutation of the training images that all ranks share; with B images per rank,
rank r of w takes rows `[(s w + r) B, (s w + r + 1) B)` of the endless sequence of epochs at step s.
Augmentation is drawn from the streams of the step. The network gets intensities in [0, 1] as
`image` `(N, C, H, W)`, and the channel statistics as the arguments `mean` and `std`: a trained
network takes images as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.image import image_files
from sciml.data.image.image_files import Images
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument, did_you_mean

# Reader, number of classes, largest pixel value.
SOURCES = {
    "digits": (image_files.digits, 10, 16),
    "cifar10": (image_files.cifar10, 10, 255),
    "cifar100": (image_files.cifar100, 100, 255),
    "mnist": (image_files.mnist, 10, 255),
    "svhn": (image_files.svhn, 10, 255),
}
CHUNK = 500  # images in a chunk of the validation or test set


class ImageData(StepData):
    """Batches of labelled images, with a validation set taken from the training images.

    Args:
        source: `digits` (from scikit-learn), or `cifar10`, `cifar100`, `mnist`, `svhn` from files.
        root: Folder with the published files, see `sciml.data.image.image_files`.
        batch_size: Images per step and rank, B.
        val_share: Share of the training images held out for validation, the same in every class;
            the choice does not depend on the seed.
        crop: Largest shift in whole pixels with zeros moved in: a crop of the padded image.
        flip: Probability of a mirror image.
        shift: Largest shift in pixels, interpolated.
        rotate: Largest rotation in degrees, interpolated.
        zoom: Largest relative change of size, interpolated.
        seed: Seed of order and augmentation.
        fixed_for: Steps for which a batch stays the same.

    Attributes:
        sizes: `in_channels`, `classes`, `image_size` (H), and per channel of the training images
            `mean` and `std`.

    Raises:
        InvalidArgument: For files that are missing or damaged, or settings that cannot be.

    Example:
        >>> from sciml.data import ImageData
        >>> data = ImageData(source="digits", batch_size=16, shift=1.0)
        >>> batch = data.batch(0)
        >>> tuple(batch.inputs["image"].shape), tuple(batch.target.shape), data.sizes["classes"]
        ((16, 1, 8, 8), (16,), 10)
    """

    kind = "classification"

    def __init__(
        self,
        *,
        source: Literal["digits", "cifar10", "cifar100", "mnist", "svhn"] = "digits",
        root: str | None = None,
        batch_size: int = 64,
        val_share: float = 0.1,
        crop: int = 0,
        flip: float = 0.0,
        shift: float = 0.0,
        rotate: float = 0.0,
        zoom: float = 0.0,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        if source not in SOURCES:
            raise InvalidArgument(f"data.source={source}", "", did_you_mean(source, SOURCES))
        if batch_size < 1:
            raise InvalidArgument(f"data.batch_size={batch_size}", "a positive integer")
        if not 0 < val_share < 1:
            raise InvalidArgument(f"data.val_share={val_share}", "between 0 and 1")
        if not 0 <= flip <= 1:
            raise InvalidArgument(f"data.flip={flip}", "a probability")
        for name, value in {"crop": crop, "shift": shift, "rotate": rotate, "zoom": zoom}.items():
            if value < 0:
                raise InvalidArgument(f"data.{name}={value}", "zero or more")
        read, classes, self.peak = SOURCES[source]
        self.batch_size, self.crop, self.flip = batch_size, crop, flip
        self.shift, self.rotate, self.zoom = shift, rotate, zoom
        train, test = read(None if root is None else Path(root).expanduser())
        held = held_out(train.labels, val_share)
        self.parts = {
            "train": Images(train.pixels[~held], train.labels[~held]),
            "val": Images(train.pixels[held], train.labels[held]),
            "test": test,
        }
        mean, std = channel_statistics(self.parts["train"].pixels, self.peak)
        channels, height = train.pixels.shape[1:3]
        self.sizes = {"in_channels": channels, "classes": classes, "image_size": height}
        self.sizes |= {"mean": mean, "std": std}
        self.names = tuple(str(k) for k in range(classes))
        self._orders: dict[int, Tensor] = {}

    # --- training ---------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the augmented training images of a step on a rank."""
        streams = Streams(self.seed, step, rank, world, self.device())
        image, label = self._rows("train", self.places(step, rank, world))
        image = self.augmented(image, streams)
        return Batch({"image": image}, label, streams, self.batch_size * world)

    def places(self, step: int, rank: int, world: int) -> Tensor:
        """Return the places `(B,)` in the training set of what a rank sees in a step."""
        n, start = len(self.parts["train"].labels), (step * world + rank) * self.batch_size
        place = torch.arange(start, start + self.batch_size)
        first, last = start // n, (start + self.batch_size - 1) // n
        orders = torch.cat([self._order(epoch, n) for epoch in range(first, last + 1)])
        return orders[place - first * n]

    def _order(self, epoch: int, n: int) -> Tensor:
        if epoch not in self._orders:
            while len(self._orders) > 1:  # steps need at most two epochs, unless they are large
                self._orders.pop(min(self._orders))
            generator = Streams(self.seed, epoch).generator("order", common=True)
            self._orders[epoch] = torch.randperm(n, generator=generator)
        return self._orders[epoch]

    def augmented(self, image: Tensor, streams: Streams) -> Tensor:
        """Return images `(N, C, H, W)` moved, turned and mirrored at random."""

        def uniform(rows: int, name: str) -> Tensor:
            generator = streams.generator(name)
            return torch.rand(rows, len(image), generator=generator, device=image.device)

        if self.shift or self.rotate or self.zoom:
            dx, dy, turn, size = 2 * uniform(4, "affine") - 1
            shift = self.shift * torch.stack([dx, dy], 1)
            turn = math.radians(self.rotate) * turn
            image = moved(image, shift, turn, (1 + self.zoom) ** size)
        if self.crop:
            corner = (uniform(2, "crop") * (2 * self.crop + 1)).long()
            image = cropped(image, self.crop, corner.clamp_max(2 * self.crop))
        if self.flip:
            mirror = uniform(1, "flip")[0] < self.flip
            image = torch.where(mirror[:, None, None, None], image.flip(-1), image)
        return image

    def _rows(self, part: str, places: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return intensities and labels on the device of the run."""
        images, device = self.parts[part], self.device()
        if images.pixels.device != device:
            images = self.parts[part] = Images(*(t.to(device) for t in images))
        places = places.to(device) if isinstance(places, Tensor) else places
        return images.pixels[places].float() / self.peak, images.labels[places]

    # --- fixed sets -------------------------------------------------------------------------
    @property
    def val_chunks(self) -> int:
        """Return the number of chunks of validation images."""
        return -(-len(self.parts["val"].labels) // CHUNK)

    def val_chunk(self, index: int) -> Batch:
        """Return validation images as they are."""
        return self._chunk("val", index)

    @property
    def test_chunks(self) -> int:
        """Return the number of chunks of test images."""
        return -(-len(self.parts["test"].labels) // CHUNK)

    def test_chunk(self, index: int) -> Batch:
        """Return test images as they are."""
        return self._chunk("test", index)

    def _chunk(self, part: str, index: int) -> Batch:
        image, label = self._rows(part, slice(index * CHUNK, (index + 1) * CHUNK))
        streams = Streams(0, index, device=self.device())
        return Batch({"image": image}, label, streams, len(self.parts[part].labels))

    def example(self) -> dict[str, Tensor]:
        """Return eight validation images."""
        return {"image": self._rows("val", slice(0, 8))[0]}


def held_out(labels: Tensor, share: float) -> Tensor:
    """Return which images `(N,)` are held out: `share` of every class, at least one.

    A fixed generator: every run holds out the same ones.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = order[labels[order] == label]
        held[members[: max(1, round(share * len(members)))]] = True
    return held


def channel_statistics(pixels: Tensor, peak: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel of intensities pixels / peak.

    Args:
        pixels: `(N, C, H, W)` uint8; counted, so that no set is converted to floats.
        peak: Largest pixel value.
    """
    means, deviations = [], []
    for channel in pixels.unbind(1):
        # by parts: counting makes 64-bit numbers of what it counts
        parts = [torch.bincount(part.flatten(), minlength=256) for part in channel.split(4096)]
        counts = torch.stack(parts).sum(0).double()
        value = torch.arange(256, dtype=torch.float64) / peak
        mean = (counts * value).sum() / counts.sum()
        means.append(float(mean))
        variance = (counts * (value - mean) ** 2).sum() / counts.sum()
        deviations.append(float(variance.sqrt().clamp_min(1e-6)))
    return means, deviations


def cropped(image: Tensor, pad: int, corner: Tensor) -> Tensor:
    """Return windows of the size of the image from the image padded by zeros.

    Args:
        image: `(N, C, H, W)`.
        pad: Zeros on every side.
        corner: `(2, N)` integers in `[0, 2 pad]`, first row and first column of each window.
    """
    n, c, height, width = image.shape
    wide = F.pad(image, (pad, pad, pad, pad))
    rows = corner[0][:, None] + torch.arange(height, device=image.device)
    columns = corner[1][:, None] + torch.arange(width, device=image.device)
    wide = wide.gather(2, rows[:, None, :, None].expand(n, c, height, wide.shape[3]))
    return wide.gather(3, columns[:, None, None, :].expand(n, c, height, width))


def moved(image: Tensor, shift: Tensor, turn: Tensor, size: Tensor) -> Tensor:
    """Return images shifted, turned and zoomed about their centre, by bilinear interpolation.

    Args:
        image: `(N, C, H, W)`; what is moved in is zero.
        shift: `(N, 2)` pixels to the right and down.
        turn: `(N,)` radians, clockwise.
        size: `(N,)` factors; above 1 things grow.
    """
    n, _, height, width = image.shape
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=image.device)
    x, y = torch.arange(width, device=image.device), torch.arange(height, device=image.device)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) - centre  # (H, W, 2)
    # from the place in the new image back to the place in the old one
    back = grid - shift[:, None, None]
    cos, sin = (f(turn)[:, None, None] / size[:, None, None] for f in (torch.cos, torch.sin))
    old = torch.stack(
        [cos * back[..., 0] + sin * back[..., 1], cos * back[..., 1] - sin * back[..., 0]], -1
    )
    return F.grid_sample(image, old / (centre + 0.5), align_corners=False)
