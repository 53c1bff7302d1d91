"""Which samples train, validate and test: by the files' own parts, or at random by a fixed seed."""

from __future__ import annotations

import numpy as np

from sciml.data.sources.source import Source
from sciml.errors import InvalidArgument

SEED = 20  # of the split: the same for every run, so that seeds are compared on the same samples


def split(
    source: Source,
    count: int,
    *,
    how: str,
    val: float | int,
    test: float | int,
    train: float | int | None,
    apart: bool,
) -> dict[str, np.ndarray]:
    """Return increasing row numbers of "train", "val" and "test".

    Args:
        source: Says which parts it has.
        count: Samples.
        how: "auto" for the source's own parts and random for those it has not, "random", or
            "ordered" (the last samples test, those before validate).
        val: Validation samples, a number or a share.
        test: Test samples, likewise.
        train: Training samples at most, a number or a share; None for all that are left.
        apart: Whether test samples come from a file of their own.

    Raises:
        InvalidArgument: If a part would be empty.
    """
    if how not in ("auto", "random", "ordered"):
        raise InvalidArgument(f"data.split={how}", "auto, random or ordered")
    parts = dict(source.parts) if how == "auto" else {}
    left = parts.pop("train", None)
    if left is None:
        taken = np.concatenate([np.zeros(0, int), *parts.values()]).astype(int)
        left = np.setdiff1d(np.arange(count), taken)
    if apart:
        parts.pop("test", None)
    left = np.asarray(left, dtype=np.int64)
    if how != "ordered":
        left = np.random.default_rng(SEED).permutation(left)
    whole = len(left)
    for name, asked in (("test", test), ("val", val)):
        if name in parts or (name == "test" and apart):
            continue
        n = _number(f"data.{name}", asked, whole)
        parts[name], left = left[len(left) - n :], left[: len(left) - n]
    if isinstance(train, float):
        train = _number("data.train", train, whole)
    elif train is not None and train < 1:
        raise InvalidArgument(f"data.train={train}", "a share between 0 and 1, or a number")
    left = left if train is None else left[:train]
    if not len(left) or not len(parts.get("val", ())) or (not apart and not len(parts["test"])):
        shown = {"train": len(left), **{k: len(v) for k, v in parts.items()}}
        raise InvalidArgument(
            f"{source.path} with {count} sample{'s' * (count != 1)}, which would be split into "
            + ", ".join(f"{n} to {k}" for k, n in shown.items()),
            "at least one sample in every part (three in all)",
            "Type data.val=N data.test=N, or bring more samples",
        )
    return {"train": np.sort(left)} | {k: np.sort(np.asarray(v)) for k, v in parts.items()}


def _number(key: str, asked: float | int, whole: int) -> int:
    share = isinstance(asked, float)
    if isinstance(asked, bool) or not (0 < asked < 1 if share else 0 < asked < max(whole, 2)):
        raise InvalidArgument(
            f"{key}={asked} of {whole} samples", "a share between 0 and 1, or a number of samples"
        )
    return max(1, round(asked * whole)) if share else asked
