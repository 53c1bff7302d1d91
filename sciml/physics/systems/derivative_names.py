"""What derivatives are called: the variables in a row, `lap` and `n`."""

from __future__ import annotations

import functools

from sciml.autodiff.multi_indices import MultiIndex


class DerivativeNames:
    """How derivatives are called: the variables in a row, `lap` and `n`.

    Args:
        variables: Names of all variables, in the order of multi-indices.
        space: Those of space, which `lap` and `n` belong to.
    """

    def __init__(self, variables: tuple[str, ...], space: tuple[str, ...]) -> None:
        self.variables, self.space = variables, space
        self.zero: MultiIndex = (0,) * len(variables)
        self._longest = sorted(variables, key=len, reverse=True)

    @functools.cache  # noqa: B019 - lives as long as its system
    def index(self, text: str) -> MultiIndex | None:
        """Return the multi-index of "xxt", None for what is no derivative."""
        index = list(self.zero)
        while text:
            name = next((v for v in self._longest if text.startswith(v)), None)
            if name is None:
                return None
            index[self.variables.index(name)] += 1
            text = text[len(name) :]
        return tuple(index)

    def unit(self, variable: str, times: int = 1) -> MultiIndex:
        """Return the multi-index of a derivative in one variable."""
        return tuple(times if v == variable else 0 for v in self.variables)
