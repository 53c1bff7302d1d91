"""One network after the other in time: each window begins where the one before it ended.

Times between start and end are cut into K equal windows. Window k has an `Ansatz` of its own, whose
inputs are scaled to the window; those before it are frozen. Only the present one is trained: `jet`
is about it alone, while calling the whole asks the window that a time belongs to.

Reference: Wight and Zhao 2021, "Solving Allen-Cahn and Cahn-Hilliard equations using the adaptive
physics informed neural networks", arXiv 2007.04542, section 3.3; Krishnapriyan et al. 2021, arXiv
2109.01050, section 5.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sciml.autodiff.multijet import MultiJet
from sciml.errors import InvalidArgument
from sciml.networks.solutions.ansatz import Ansatz
from sciml.typed_arguments import typed


@typed
class TimeWindows(nn.Module):
    """Named outputs of a system at points, by window of time.

    Args:
        system: The system, which has a time.
        network: Called as `network(None, None, f)`; the first window's. Later ones begin with the
            weights that the one before ended with.
        modes: Harmonics of a periodic variable that the network sees.
        windows: K.

    Attributes:
        live: The ansatz of the present window.
        past: Those of the windows before it; what comes after the present is not used.

    Raises:
        InvalidArgument: For a system without time, or fewer than two windows.

    Example:
        >>> import torch
        >>> from sciml.networks import MLP, TimeWindows
        >>> from sciml.physics.suite import Burgers1D
        >>> network = TimeWindows(Burgers1D(), MLP(dim=0, features=2, width=8, depth=2), windows=4)
        >>> network.index
        0
        >>> network.advance()  # the first quarter of the time is done
        >>> network.index, tuple(network(torch.rand(5, 2))["u"].shape)
        (1, (5,))
    """

    def __init__(self, system: Any, network: nn.Module, modes: int = 1, windows: int = 2) -> None:
        super().__init__()
        if not isinstance(windows, int) or windows < 2:
            raise InvalidArgument(f"module.windows={windows}", "an integer of at least 2")
        if system.region.time is None:
            raise InvalidArgument(
                f"module.windows={windows} for {type(system).__name__}, which has no time",
                "a domain with Time(start, end)",
                "Type module.windows=1",
            )
        self.windows, self.column = windows, len(system.region.space)
        self.live = Ansatz(system, network, modes)
        self.past = nn.ModuleList(
            Ansatz(system, copy.deepcopy(network), modes) for _ in range(windows - 1)
        ).requires_grad_(False)
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))
        self._number: int | None = None  # the same on the host, where training looks
        self.start, self.length = system.region.time.low, 0.0
        self.length = (system.region.time.high - self.start) / windows
        for k, ansatz in enumerate(self.past):
            self._focus(ansatz, k)
        self._focus(self.live, 0)

    # --- as an ansatz -----------------------------------------------------------------------
    @property
    def system(self) -> Any:
        """The system."""
        return self.live.system

    @property
    def network(self) -> nn.Module:
        """The network of the present window."""
        return self.live.network

    @property
    def modes(self) -> int:
        """Harmonics of a periodic variable."""
        return self.live.modes

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the networks."""
        return self.live.dtype

    @property
    def unknowns(self) -> nn.ModuleDict:
        """Unknown constants: none, since each window would have its own."""
        return self.live.unknowns

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs `(N,)` by name at points `(N, D)` of any time."""
        parts = [*self.past[: self.index], self.live]
        window = ((x[:, self.column] - self.start) / self.length).long().clamp(0, self.index)
        made: dict[str, Tensor] = {}
        for k, ansatz in enumerate(parts):
            mine = window == k
            for name, value in ansatz(x[mine]).items() if bool(mine.any()) else ():
                made.setdefault(name, x.new_zeros(len(x)))[mine] = value.to(x)
        return made or self.live(x)

    def jet(self, p: Any, wanted: frozenset, along: tuple[int, ...] | None = None) -> MultiJet:
        """Return the outputs of the present window with derivatives, see `Ansatz.jet`."""
        return self.live.jet(p, wanted, along)

    def schema(self) -> dict[str, dict[str, dict]]:
        """Return what `infer` takes and returns."""
        return self.live.schema()

    def infer(self, **coordinates: Tensor) -> dict[str, Tensor]:
        """Return the outputs `(N,)` by name at points given by coordinates `(N,)` each."""
        return self(torch.stack([coordinates[v] for v in self.system.region.variables], 1))

    # --- windows ----------------------------------------------------------------------------
    @property
    def index(self) -> int:
        """Number of the present window, from 0."""
        if self._number is None or not self.training:  # whoever loads weights may have changed it
            self._number = int(self.number)
        return self._number

    def moved(self, t: Tensor) -> Tensor:
        """Return times of the whole interval, squeezed into the present window."""
        return self.start + self.index * self.length + (t - self.start) / self.windows

    @property
    def before(self) -> Ansatz | None:
        """The ansatz whose end state the present window begins with; None in the first."""
        return self.past[self.index - 1] if self.index else None

    def advance(self) -> None:
        """Freeze the present window and begin the next one with its weights."""
        self.past[self.index].load_state_dict(self.live.state_dict())
        self.number += 1
        self._number = None
        self._focus(self.live, self.index)

    def _focus(self, ansatz: Ansatz, k: int) -> None:
        """Scale the inputs of a window's ansatz to it."""
        ansatz.middle[self.column] = self.start + (k + 0.5) * self.length
        ansatz.scale[self.column] = 2 / self.length

    def _load_from_state_dict(self, *args: Any) -> None:
        """Read the number of the window again."""
        self._number = None
        super()._load_from_state_dict(*args)
