"""Checks of an optimizer's options: one table of ranges, one reading of `params`.

Our constructors and their parameter groups (`ExactOptimizer.add_param_group`) and the optimizers of
other libraries (`sciml.optim.construct`) are checked by the same rules, so a number means the same
everywhere, and nan, infinity, text and yes-or-no never pass for a number.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from sciml.errors import InvalidArgument, InvalidType, did_you_mean


class NumberRule(NamedTuple):
    """What a number must be.

    Attributes:
        good: Whether a finite number will do.
        expected: The same in words.
        whole: Whether it counts something.
    """

    good: Callable[[float], bool]
    expected: str
    whole: bool = False


POSITIVE = NumberRule(lambda x: x > 0, "a positive number")
NOT_NEGATIVE = NumberRule(lambda x: x >= 0, "0 or a positive number")
SHARE = NumberRule(lambda x: 0 <= x < 1, "a number in [0, 1)")
LARGEST = 2**63 - 1
FINITE = NumberRule(lambda x: True, "a finite number")


def at_least(least: int) -> NumberRule:
    """Return the rule of a count."""
    return NumberRule(lambda x: x >= least, f"a whole number, {least} or more", whole=True)


# Options that mean the same wherever they occur.
RANGES: dict[str, NumberRule] = {
    "lr": NOT_NEGATIVE,  # 0 freezes a group on purpose
    "fallback_lr": POSITIVE,
    "damping": POSITIVE,
    "eps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "momentum": SHARE,
    "acceleration": NOT_NEGATIVE,
    "rank": at_least(1),
    "history": at_least(0),
    "history_size": at_least(1),
    "max_iter": at_least(1),
    "update_every": at_least(1),
    "curvature_every": at_least(1),
    "inverse_every": at_least(1),
    "adapt_every": at_least(0),
    "max_factor": at_least(1),
    "chunk": at_least(1),
}


def check(**options: Any) -> None:
    """Refuse options outside the ranges of the table; names it does not know pass.

    Raises:
        InvalidType: For what is no number.
        InvalidArgument: For a number out of range, nan and infinity included.
    """
    for name, value in options.items():
        if name in RANGES:
            number(RANGES[name], **{name: value})
    if "betas" in options:
        shares(options["betas"], 2)


def number(rule: NumberRule, **options: Any) -> None:
    """Refuse numbers that break a rule.

    Raises:
        InvalidType: For what is no number.
        InvalidArgument: For a number out of range, nan and infinity included.
    """
    for name, value in options.items():
        plain = value
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
            plain = value.item()  # torch allows a learning rate to be one
        kind = numbers.Integral if rule.whole else numbers.Real
        if isinstance(plain, bool) or not isinstance(plain, kind):
            raise InvalidType(f"optimizer.{name}={value!r}", rule.expected)
        # tensors take 64-bit integers and no larger ones; a float of that size passes
        huge = isinstance(plain, numbers.Integral) and not -LARGEST <= plain <= LARGEST
        if huge or not (math.isfinite(plain) and rule.good(plain)):
            raise InvalidArgument(f"optimizer.{name}={value}", rule.expected)


def shares(betas: Any, count: int, *, one: bool = False) -> tuple[float, ...]:
    """Return `betas`, so many numbers in [0, 1).

    Args:
        betas: What was given.
        count: How many there must be.
        one: Whether 1 is allowed too.

    Raises:
        InvalidType: For what is no list of numbers.
        InvalidArgument: For another length or a number out of range.
    """
    if not isinstance(betas, Iterable) or isinstance(betas, str | Tensor):
        raise InvalidType(f"optimizer.betas={betas!r}", f"{count} numbers in [0, 1)")
    betas = tuple(betas)
    if len(betas) != count:
        raise InvalidArgument(f"optimizer.betas={list(betas)}", f"{count} numbers in [0, 1)")
    for beta in betas:
        number(NumberRule(lambda x: 0 <= x <= 1, "numbers in [0, 1]") if one else SHARE, betas=beta)
    return tuple(float(beta) for beta in betas)


def one_of(choices: Iterable[Any], **options: Any) -> None:
    """Refuse names that are not among the choices.

    Raises:
        InvalidArgument: With the nearest choice.
    """
    choices = tuple(choices)
    for name, value in options.items():
        if not isinstance(value, str | int | float | None) or value not in choices:
            listed = ", ".join(str(c) for c in choices)
            close = did_you_mean(str(value), map(str, choices)).rpartition("Available")[0]
            raise InvalidArgument(f"optimizer.{name}={value}", f"one of {listed}", close.strip())


def switches(**options: Any) -> None:
    """Refuse what is neither true nor false: a word like 'no' would count as true.

    Raises:
        InvalidType: For anything but a bool.
    """
    for name, value in options.items():
        if not isinstance(value, bool):
            raise InvalidType(f"optimizer.{name}={value!r}", "true or false")


# --- what is trained ------------------------------------------------------------------------------
def parameters_of(given: Any, owner: str) -> list[Any]:
    """Return the parameters to train, or groups of them.

    Args:
        given: A module, whose trained parameters are meant; or parameters, named ones or groups, as
            any torch optimizer takes them.
        owner: Name of the optimizer, for the message.

    Raises:
        InvalidType: For anything else.
        InvalidArgument: If nothing is to be trained.
    """
    if isinstance(given, nn.Module):
        given = [p for p in given.parameters() if p.requires_grad]
    wanted = "a module, or its parameters"
    hint = f"Write {owner}(network) or {owner}(network.parameters())"
    if isinstance(given, Tensor | Mapping | str) or not isinstance(given, Iterable):
        raise InvalidType(f"{owner}({_kind(given)})", wanted, hint)
    given = list(given)
    for entry in given:
        # (name, parameter) pairs are torch's, groups hold parameters under "params"
        last = entry[-1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        if not isinstance(last, Tensor) and not (isinstance(last, Mapping) and "params" in last):
            raise InvalidType(f"{owner} of a list with a {_kind(last)}", wanted, hint)
    if not given:
        raise InvalidArgument(
            f"{owner} without parameters that require a gradient", "something to train", hint
        )
    return given


def named_parameters(given: nn.Module | Iterable[Tensor], owner: str) -> list[tuple[str, Tensor]]:
    """Return the trained parameters and their names, numbers where they have none.

    Raises:
        InvalidType: For groups of parameters, and for what is none.
        InvalidArgument: If nothing is to be trained.
    """
    if isinstance(given, nn.Module):
        given = list(given.named_parameters())
    entries = parameters_of(given, owner)
    if any(isinstance(entry, Mapping) for entry in entries):
        raise InvalidType(
            f"{owner} of parameter groups",
            "a module, or its parameters: its step is one for all of them",
            f"Write {owner}(network), or one optimizer per group",
        )
    pairs = [
        entry if isinstance(entry, tuple) else (str(i), entry) for i, entry in enumerate(entries)
    ]
    return [(name, p) for name, p in pairs if p.requires_grad]


def module_of(given: Any, owner: str) -> nn.Module:
    """Return the module whose layers a method treats.

    Raises:
        InvalidType: For parameters, which do not tell their layers, and for anything else.
    """
    if isinstance(given, nn.Module):
        return given
    raise InvalidType(
        f"{owner}({_kind(given)})",
        "the module itself: the method works layer by layer, and parameters do not tell theirs",
        f"Write {owner}(network)",
    )


def _kind(value: Any) -> str:
    return type(value).__name__
