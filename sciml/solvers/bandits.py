"""Choices that learn from their cost alone: which omega, which solver, for the next system.

    TsallisINF    p_i = 4 / (eta (L_i - x))^2 with x so that sum p = 1, eta = 2 / sqrt(t); after a
                  round the loss of the arm i that was played is L_i += cost / p_i
    ChebyshevBandit   cost of every arm as a Chebyshev series of a context c in an interval (ridge
                  regression), then inverse-gap weighting:
                  p_i = 1 / (K + gamma (f_i(c) - least f)), the rest for the best arm

The first promises a total cost that approaches that of the best single arm, whatever the costs are;
with `bins` it is one bandit per bin of the context. The second approaches the best arm *for every
context*. Costs are divided by their running mean. Many independent trials run at once.

Sources: Khodak, Chow, Balcan & Talwalkar, ICLR 2024, arXiv 2310.02246 (ChebCB; their regression is
box-constrained, ours is a ridge regression with predictions held within the costs that were seen);
Zimmert & Seldin, JMLR 22, 2021 (Tsallis-INF); Foster & Rakhlin, ICML 2020 (inverse-gap weighting).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sciml.errors import InvalidArgument

NEWTON = 30  # steps for x above


class Bandit(ABC):
    """Chooses one of `arms` again and again; `choose`, then `update` with what it cost.

    Args:
        arms: K.
        trials: Independent runs at once.
        seed: Of the choices.

    Raises:
        InvalidArgument: For counts below 1.
    """

    def __init__(self, arms: int, *, trials: int = 1, seed: int = 0) -> None:
        if arms < 1 or trials < 1:
            raise InvalidArgument(f"arms={arms}, trials={trials}", "positive whole numbers")
        self.arms, self.trials = arms, trials
        self.generator = torch.Generator().manual_seed(seed)
        self.tables: dict[str, Tensor] = {
            "rounds": torch.zeros((), dtype=torch.float64),
            "mean": torch.zeros(trials, dtype=torch.float64),
        }
        self._context: Tensor | None = None
        self._arm = self._chance = torch.zeros(trials)

    @abstractmethod
    def probabilities(self, context: Tensor | None = None) -> Tensor:
        """Return the probability of every arm, `(trials, K)`."""

    @abstractmethod
    def learn(self, arm: Tensor, chance: Tensor, cost: Tensor, context: Tensor | None) -> None:
        """Take the cost of an arm, over the mean so far, that was played with some chance."""

    def choose(self, context: Tensor | None = None) -> Tensor:
        """Return the arms to play, `(trials,)`.

        Args:
            context: `(trials,)` numbers that are known beforehand, where the bandit uses them.
        """
        p = self.probabilities(context)
        self._arm = torch.multinomial(p, 1, generator=self.generator)[:, 0]
        self._chance = p.gather(1, self._arm[:, None])[:, 0]
        self._context = context
        return self._arm

    def update(self, cost: Tensor) -> None:
        """Learn what the arms that were chosen last have cost.

        Args:
            cost: `(trials,)`, not negative: iterations, or seconds.

        Raises:
            InvalidArgument: For costs of another shape, or that are negative or not finite.
        """
        if cost.shape != (self.trials,) or not bool((cost >= 0).all() & cost.isfinite().all()):
            raise InvalidArgument(
                f"costs {cost.tolist()[:4]} of shape {tuple(cost.shape)}",
                f"finite numbers >= 0 of shape ({self.trials},)",
            )
        cost, tables = cost.double(), self.tables
        tables["rounds"] = tables["rounds"] + 1
        tables["mean"] = tables["mean"] + (cost - tables["mean"]) / tables["rounds"]
        mean = tables["mean"].masked_fill(tables["mean"] == 0, 1.0)
        self.learn(self._arm, self._chance, cost / mean, self._context)

    # --- saved and continued ----------------------------------------------------------------
    def state(self) -> dict[str, Tensor]:
        """Return everything that the next choices depend on."""
        return self.tables | {"generator": self.generator.get_state()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state.

        Raises:
            InvalidArgument: If it is the state of another bandit.
        """
        wanted = {name: t.shape for name, t in self.tables.items()}
        got = {name: t.shape for name, t in state.items() if name != "generator"}
        if got != wanted:
            raise InvalidArgument(f"a bandit's state with {got}", f"{wanted}")
        self.tables = {name: state[name].clone() for name in wanted}
        self.generator.set_state(state["generator"])


class TsallisINF(Bandit):
    """The first bandit of the module's text.

    Args:
        arms: K.
        bins: Number of equal bins of the context, one bandit in each; 1 looks at no context.
        interval: Ends of the context.
        trials: Independent runs at once.
        seed: Of the choices.

    Example:
        >>> import torch
        >>> from sciml.solvers.bandits import TsallisINF
        >>> bandit = TsallisINF(2)
        >>> for _ in range(300):
        ...     arm = bandit.choose()
        ...     bandit.update(torch.where(arm == 0, 1.0, 3.0))
        >>> bool(bandit.probabilities()[0, 0] > 0.9)
        True
    """

    def __init__(
        self,
        arms: int,
        *,
        bins: int = 1,
        interval: tuple[float, float] = (0.0, 1.0),
        trials: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(arms, trials=trials, seed=seed)
        if bins < 1 or not interval[0] < interval[1]:
            raise InvalidArgument(f"bins={bins}, interval={interval}", "a bin or more, low < high")
        self.bins, self.interval = bins, interval
        self.tables |= {
            "losses": torch.zeros(trials, bins, arms, dtype=torch.float64),
            "played": torch.zeros(trials, bins, dtype=torch.float64),
        }

    def _bin(self, context: Tensor | None) -> Tensor:
        if self.bins == 1:
            return torch.zeros(self.trials, dtype=torch.long)
        if context is None:
            raise InvalidArgument("no context", f"numbers in {self.interval}, as there are bins")
        share = (context - self.interval[0]) / (self.interval[1] - self.interval[0])
        return (share * self.bins).long().clamp(0, self.bins - 1)

    def probabilities(self, context: Tensor | None = None) -> Tensor:
        """Return the probability of every arm, `(trials, K)`."""
        rows, place = torch.arange(self.trials), self._bin(context)
        losses = self.tables["losses"][rows, place]
        eta = 2 / (self.tables["played"][rows, place] + 1).sqrt()[:, None]
        losses = losses - losses.amin(1, keepdim=True)
        # from the left, where sum p >= 1: Newton on a convex, rising function from its high side
        x = -2 / eta
        for _ in range(NEWTON):
            w = 4 / (eta * (losses - x)).square()
            x = x - (w.sum(1, keepdim=True) - 1) / (eta * w.pow(1.5).sum(1, keepdim=True))
        w = 4 / (eta * (losses - x)).square()
        return w / w.sum(1, keepdim=True)

    def learn(self, arm: Tensor, chance: Tensor, cost: Tensor, context: Tensor | None) -> None:
        """Add the weighted loss."""
        rows, place = torch.arange(self.trials), self._bin(context)
        self.tables["losses"][rows, place, arm] += cost / chance
        self.tables["played"][rows, place] += 1


class ChebyshevBandit(Bandit):
    """The second bandit of the module's text.

    Args:
        arms: K.
        interval: Ends of the context.
        terms: Of the series.
        ridge: Weight that holds the coefficients.
        sharpness: gamma = sharpness * sqrt(K t).
        trials: Independent runs at once.
        seed: Of the choices.

    Raises:
        InvalidArgument: For settings that cannot be.
    """

    def __init__(
        self,
        arms: int,
        *,
        interval: tuple[float, float] = (0.0, 1.0),
        terms: int = 6,
        ridge: float = 0.1,
        sharpness: float = 16.0,
        trials: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(arms, trials=trials, seed=seed)
        if terms < 1 or not interval[0] < interval[1] or not ridge > 0 or not sharpness > 0:
            raise InvalidArgument(
                f"terms={terms}, interval={interval}, ridge={ridge}, sharpness={sharpness}",
                "a term or more, low < high, and positive numbers",
            )
        self.interval, self.terms, self.sharpness = interval, terms, sharpness
        like = {"dtype": torch.float64}
        self.tables |= {
            "normal": ridge * torch.eye(terms, **like).repeat(trials, arms, 1, 1),
            "right": torch.zeros(trials, arms, terms, **like),
            "series": torch.zeros(trials, arms, terms, **like),
            "most": torch.zeros(trials, 1, **like),
        }

    def _features(self, context: Tensor | None) -> Tensor:
        """Return T_0 to T_(m-1) of the context, `(trials, m)`."""
        if context is None:
            raise InvalidArgument("no context", f"numbers in {self.interval}")
        low, high = self.interval
        angle = (2 * (context.double() - low) / (high - low) - 1).clamp(-1, 1).arccos()
        return torch.cos(angle[:, None] * torch.arange(self.terms))

    def probabilities(self, context: Tensor | None = None) -> Tensor:
        """Return the probability of every arm, `(trials, K)`."""
        costs = (self.tables["series"] * self._features(context)[:, None]).sum(-1)
        costs = costs.clamp_min(0).minimum(self.tables["most"])
        best = costs.argmin(1, keepdim=True)
        gap = costs - costs.gather(1, best)
        gamma = self.sharpness * (self.arms * (self.tables["rounds"] + 1)).sqrt()
        p = (1 / (self.arms + gamma * gap)).scatter(1, best, 0.0)
        return p.scatter(1, best, 1 - p.sum(1, keepdim=True))

    def learn(self, arm: Tensor, chance: Tensor, cost: Tensor, context: Tensor | None) -> None:
        """Update the regression of the arm."""
        rows, phi, tables = torch.arange(self.trials), self._features(context), self.tables
        tables["normal"][rows, arm] += phi[:, :, None] * phi[:, None]
        tables["right"][rows, arm] += cost[:, None] * phi
        tables["most"] = tables["most"].maximum(cost[:, None])
        normal, right = tables["normal"][rows, arm], tables["right"][rows, arm]
        tables["series"][rows, arm] = torch.linalg.solve(normal, right[..., None])[..., 0]
