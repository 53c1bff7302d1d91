"""Settings of data whose labels are walks, checked before anything is made."""

from __future__ import annotations

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_number, check_positive
from sciml.physics.elliptic.domain_families import REACH

# What must be an integer: the least one that makes sense.
LEAST = {
    "batch_size": 1,
    "pool": 0,
    "walks": 0,
    "control": 0,
    "max_steps": 1,
    "table": 0,
    "val_count": 1,
    "val_walks": 4,
    "test_count": 1,
    "interior": 1,
    "boundary": 8,
}
SMALLEST_TABLE = 16
LARGEST_CONTROL = 12  # polynomials of higher degree are no longer told apart by the points
LARGEST_MARGIN = 0.3  # every domain has points farther from its boundary
LARGEST_EPS = 0.1


def check_settings(**settings: float) -> None:
    """Refuse settings out of range.

    Args:
        settings: Arguments of `WalkData` or `WalkClouds`.

    Raises:
        InvalidArgument: Naming the first one and what it may be.
    """
    for name in LEAST.keys() & settings:
        value, least = settings[name], LEAST[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidArgument(f"data.{name}={value}", f"an integer of at least {least}")

    def at_most(name: str, largest: float, why: str) -> None:
        if settings.get(name, 0) > largest:
            raise InvalidArgument(f"data.{name}={settings[name]}", f"at most {largest}: {why}")

    if "eps" in settings:
        check_positive("data.eps", settings["eps"])
    if "margin" in settings:
        check_number("data.margin", settings["margin"], 0.0)
    at_most("eps", LARGEST_EPS, "in units of the domain's size, and the bias is of its size")
    at_most("margin", LARGEST_MARGIN, "else domains are left without labels")
    at_most("control", LARGEST_CONTROL, "the degree of polynomials that the points determine")
    if "half" in settings and check_positive("data.half", settings["half"]) < REACH:
        raise InvalidArgument(
            f"data.half={settings['half']}",
            f"at least {REACH}: domains reach so far from the origin",
            "Type data.half=1.5",
        )
    if 0 < settings.get("table", 0) < SMALLEST_TABLE:
        raise InvalidArgument(
            f"data.table={settings['table']}",
            f"0 for exact distances, or at least {SMALLEST_TABLE} points per axis",
        )
    if settings.get("val_walks", 0) % 4:
        raise InvalidArgument(f"data.val_walks={settings['val_walks']}", "a multiple of 4")


def check_cache(pool: int, batch_size: int, walks: int) -> None:
    """Refuse to keep labels of domains that do not come again, or that have none.

    Raises:
        InvalidArgument: Naming the settings.
    """
    if pool == 0 or pool % batch_size:
        raise InvalidArgument(
            f"data.cache=true with data.pool={pool}", f"a multiple of batch_size={batch_size}"
        )
    if walks == 0:
        raise InvalidArgument("data.cache=true with data.walks=0", "labels to be kept")
