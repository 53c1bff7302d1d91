"""Forward time of `WosGINO` and of neuraloperator's GINO at equal sizes, a part of `wos.py`.

1024 interior and 256 boundary points, 1280 query points, a latent grid of 48^2, 20 channels, 4
Fourier layers with 16 modes of either sign, kernels with one hidden layer of 32, 16 neighbours of a
point on the grid (ours: always; theirs: in the mean, by their radius). Theirs takes one geometry at
a time and has, without the optional torch-scatter, a Python loop over all query points; `sums` is
theirs with that loop replaced by one `index_add`, as
`sciml.networks.elliptic.neuraloperator_elliptic` runs it. Ours is timed with the analytic first
guess and without, one problem at a time and eight together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from sciml.data.walk_labels.walk_clouds import WalkClouds
from sciml.errors import MissingPackage
from sciml.networks.elliptic.neuraloperator_elliptic import NeuralopCloud
from sciml.networks.elliptic.wos_gino import WosGINO
from sciml.networks.neuraloperator_library import summed_at_once
from sciml.physics.elliptic.elliptic_families import StarPoisson

NODES, WIDTH, MODES, HIDDEN = 48, 20, 8, 32


def theirs(spacing: float) -> NeuralopCloud:
    """Return neuraloperator's network, in our adapter.

    Raises:
        MissingPackage: If it is not installed.
    """
    radius = spacing * math.sqrt(16 / math.pi)
    options = {
        "in_gno_radius": radius,
        "out_gno_radius": radius,
        "gno_embed_channels": 16,
        "fno_n_modes": [2 * MODES, 2 * MODES],
        "fno_hidden_channels": WIDTH,
        "fno_n_layers": 4,
        "in_gno_channel_mlp_hidden_layers": [HIDDEN],
        "out_gno_channel_mlp_hidden_layers": [HIDDEN],
    }
    return NeuralopCloud(nodes=NODES, options=options)


@torch.no_grad()
def forward_times(repeats: int = 7) -> dict:
    """Return the best processor times per problem in milliseconds, and numbers of weights."""
    data = WalkClouds(StarPoisson(), 1024, 256, batch_size=8, pool=8, walks=0)
    eight = data.batch(0).to("cpu", torch.float32).inputs
    one = {name: value[:1] for name, value in eight.items()}
    size = {"nodes": NODES, "width": WIDTH, "modes": MODES, "hidden": HIDDEN}
    lifted, plain = WosGINO(**size), WosGINO(**size, lift=False)
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (lambda: lifted(**one), 1),
        "ours, eight together": (lambda: lifted(**eight), 8),
        "ours, no lift": (lambda: plain(**one), 1),
        "ours, no lift, eight together": (lambda: plain(**eight), 8),
    }
    weights = {"ours": _count(lifted)}
    try:
        peer = theirs(lifted.spacing)
    except MissingPackage as error:
        print(error)
    else:
        weights["neuraloperator"] = _count(peer)
        place = one["points"][0]
        features = torch.stack([one[k] for k in ("boundary", "distance", "source")], 2)

        def loop() -> torch.Tensor:
            return peer.model(one["points"], peer.grid[None], place, x=features)[..., 0]

        def sums() -> torch.Tensor:
            with summed_at_once():
                return loop()

        gap = (loop() - sums()).abs().max()
        if gap > 1e-5:
            raise SystemExit(f"the replaced sums differ by {gap}")
        calls["neuraloperator"] = (loop, 1)
        calls["neuraloperator, sums"] = (sums, 1)
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, (run, problems) in calls.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], 1e3 * (time.process_time() - start) / problems)
    for name, milliseconds in best.items():
        print(f"{name:32s} {milliseconds:8.1f} ms per problem", flush=True)
    return {"milliseconds": {k: round(v, 2) for k, v in best.items()}, "weights": weights}


def _count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
