"""`elliptic_operator` says what walks would take, from a few of them on the clock.

The clock here is one on which walks take what a formula says, so the answer is known.
"""

from types import SimpleNamespace

import pytest
import torch

from sciml.pretrained.elliptic import elliptic_operator

START, EACH = 0.25, 3e-5  # seconds of a call, and of a walk in it


@pytest.mark.parametrize("shape", [(1, 5), (3, 40), (2, 500)])
def test_elliptic_operator_says_the_time_of_all_walks(shape, monkeypatch):
    now, started = [100.0], []

    class Walks:
        def __init__(self, walks, *given, **named):
            self.walks = walks

        def __call__(self, domain, problem, points, generator):
            started.append(self.walks * points.shape[:2].numel())
            now[0] += START + EACH * started[-1]

    monkeypatch.setattr(elliptic_operator, "WalkOnSpheres", Walks)
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(elliptic_operator, "time", clock)
    given = SimpleNamespace(domain=None, problem=None)
    said = elliptic_operator._price(given, torch.zeros(*shape, 2))
    assert said.startswith("solve(..., walks=256) is right whatever the operator says")
    # the shorter of the two calls is what starting costs, walks that are few beside the others
    wanted = START + EACH * (started[0] + 256 * shape[0] * shape[1])
    assert said.endswith(f"takes about {wanted:.1g} s.")
    assert started == [4 * 64 * shape[0], 64 * 64 * shape[0]]
