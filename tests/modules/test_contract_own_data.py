"""The contract of every method, on operators trained on files."""

import tempfile
from pathlib import Path

from sciml.testing import small_files as small
from sciml.testing.contract import ModuleContract

HELD = tempfile.TemporaryDirectory(prefix="own-data-")  # command lines name files that are there
FOLDER = Path(HELD.name)
PAIRS = small.pairs(FOLDER / "pairs.npz", count=20, n=8)
WAVES = small.trajectories(FOLDER / "waves.npz", count=20, times=5, n=8)
SMALL = ("data.batch_size=4", "schedule.warmup=0", "optimizer.lr=1e-2", "module.baselines=false")


def case(model, *words, path=PAIRS):
    return [f"model={model}", f"data.path={path}", *SMALL, *words]


TINY = ("network.width=4", "network.hidden=8", "network.modes=2", "network.layers=2")
LIBRARY = ("network.width=4", "network.modes=4", "network.layers=2")
NARROW = ("network.width=16", "network.depth=2", "network.functions=8")


class TestModels(ModuleContract):
    waits = {"fno_deq": 8}
    cases = {
        "fno": case("fno", *TINY),
        "rollout": case("fno", *TINY, "data.steps=2", "data.noise=0.01", path=WAVES),
        "blocks": case("fno", *TINY, "data.memory=0", "data.symmetries=[transpose,shift]"),
        "unet": case("unet", "network.width=4", "module.loss=h1"),
        "tfno": case("tfno", *LIBRARY),
        "uno": case("uno", *LIBRARY, "network.layers=3"),
        "fno_deq": case("fno_deq", *TINY[:-1], "solver.rtol=1e-6", "solver.max_iter=60",
                        "adjoint.linear.rtol=1e-6", "adjoint.linear.max_iter=50"),
        "deeponet": case("deeponet", *NARROW),
        "pod_deeponet": case("pod_deeponet", *NARROW),
    }  # fmt: skip
    slow_cases = ("unet", "tfno", "uno", "fno_deq", "deeponet", "pod_deeponet")
    # contractions of the library's networks go through opt_einsum, which takes tensors of the
    # pretend device for numpy arrays (those of a real one are torch's own class)
    accelerator_cases = ("fno", "rollout", "blocks", "unet", "fno_deq", "deeponet", "pod_deeponet")
    overfit = (60, 0.3)
    optimizer_cases = ("fno",)
    rank_cases = ("fno", "rollout", "blocks", "unet")
