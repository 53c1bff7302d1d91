"""The contract of every method, on networks of the library between point clouds of files."""

import tempfile
from pathlib import Path

import torch

from sciml.testing.contract import ModuleContract

HELD = tempfile.TemporaryDirectory(prefix="clouds-")  # command lines name a file that is there
FILE = Path(HELD.name) / "clouds.pt"


def write():
    draw = torch.Generator().manual_seed(0)
    held = []
    for n in (40, 44, 48, 42, 46, 50):
        p = torch.rand(n, 3, generator=draw)
        held.append({"vertices": p, "press": p[None, :, 0] + p[None, :, 1] ** 2})
    torch.save(held, FILE)


write()
WORDS = (f"data.path={FILE}", "data.samples=24", "network.nodes=4", "network.width=4",
         "network.modes=2", "network.layers=1", "network.radius=0.5", "optimizer.lr=1e-2",
         "schedule.warmup=0")  # fmt: skip


OURS = (*WORDS[:4], "network.levels=1", "network.hidden=8", *WORDS[-2:])


class TestCloudUNet(ModuleContract):
    cases = {"cloud_unet": ["model=cloud_unet", *OURS]}
    overfit = (60, 0.3)
    optimizer_cases = ()  # as below


class TestClouds(ModuleContract):
    cases = {model: [f"model={model}", *WORDS] for model in ("gino", "fnogno")}
    # contractions of the library's networks go through opt_einsum, which takes tensors of the
    # pretend device for numpy arrays (those of a real one are torch's own class)
    accelerator_cases = ()
    overfit = (60, 0.3)
    slow_cases = ("fnogno",)
    optimizer_cases = ()  # test_contract_own_data.py has them all; here K-FAC warns of mixed points
    rank_cases = ("gino",)
