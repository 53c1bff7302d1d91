"""Operators on files: neuraloperator's own trainer beside ours in one run, then our defaults.

    python benchmarks/operators.py FOLDER [--what NAME ...] [--seeds 0 1 2] [--epochs 20]
    python benchmarks/operators.py FOLDER --table      # of what was kept, for docs/own_data.md

FOLDER holds darcy_train_16.pt, darcy_test_16.pt, darcy_test_32.pt, burgers_train_16.pt and
burgers_test_16.pt, as the neuraloperator library ships or downloads them. What there is to run:

    library   its Trainer: FNO(8, 8), 32 channels, H1 loss, AdamW 5e-3, shuffled, cosine to the end
    same      the same network, epochs, loss, optimizer and schedule in our trainer
    best      our defaults for small grids: model=unet optimizer=soap, symmetries, views
    coarse    the same on top of finite differences on the input (data.coarse)
    burgers   model=fno on the evolution of Burgers' equation, times as channels, symmetries
    shocks    model=fno on Burgers' equation with little viscosity, by our own solver, as roll-outs
    gino      model=gino on random stars of different sizes, solved by finite elements (star_meshes)
    fnogno    model=fnogno on the same
    cloud_unet  model=cloud_unet on the same, 1.4 times as many steps, a quarter more time
    ridge     kernel ridge regression on Darcy and Burgers, which trains nothing

Times are CPU seconds of this process (one thread), without imports and final tests; those of
`best`, `coarse` and `burgers` include what reads and checks the data, and solves. Errors are means
over test samples of relative L2 errors, in percent. Settings were chosen on a tenth of the training
samples, never on the test files.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from star_meshes import write_stars

from sciml.data import regression
from sciml.data.field_files import FieldFiles
from sciml.physics.evolution import Burgers
from sciml.testing import runs

RESULTS = Path(__file__).parent / "results" / "operators.json"
VIEWS = "data.symmetries=[transpose,flip_x,flip_y]"


def seconds() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def library(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train FNO with the library's own trainer and data processor."""
    from neuralop import H1Loss, LpLoss, Trainer
    from neuralop.data.datasets.darcy import DarcyDataset
    from neuralop.models import FNO
    from neuralop.training import AdamW
    from torch.utils.data import DataLoader

    torch.manual_seed(seed)
    held = DarcyDataset(
        root_dir=folder, n_train=1000, n_tests=[50, 50], batch_size=16, test_batch_sizes=[50, 50],
        train_resolution=16, test_resolutions=[16, 32], download=False,
    )  # fmt: skip
    processor = held.data_processor
    draw = torch.Generator().manual_seed(seed)
    loader = DataLoader(held.train_db, 16, shuffle=True, generator=draw)
    model = FNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=32,
                projection_channel_ratio=2)  # fmt: skip
    optimizer = AdamW(model.parameters(), lr=5e-3, weight_decay=1e-4)
    steps = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    losses = {"l2": LpLoss(d=2, p=2)}
    trainer = Trainer(model=model, n_epochs=epochs, data_processor=processor, eval_interval=epochs)
    start = seconds()
    trainer.train(
        train_loader=loader, test_loaders={}, optimizer=optimizer, scheduler=steps,
        training_loss=H1Loss(d=2), eval_losses=losses, regularizer=None,
    )  # fmt: skip
    found = {"seconds": seconds() - start, "parameters": sum(p.numel() for p in model.parameters())}
    model.eval()
    processor.eval()
    for n in (16, 32):
        held = torch.load(folder / f"darcy_test_{n}.pt", weights_only=True)
        batch = {"x": held["x"][:, None].float(), "y": held["y"][:, None]}
        with torch.no_grad():
            inside = processor.preprocess(dict(batch))
            value, _ = processor.postprocess(model(inside["x"]), inside)
        found[f"test_{n}"] = 100 * regression.relative(value.double(), batch["y"].double())
    return found


def ours(words: list[str], seed: int, baselines: bool = False) -> dict[str, float]:
    """Train a command line and return its test errors."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*words, f"seed={seed}", f"module.baselines={str(baselines).lower()}"]
        trainer = {"log_every_n_steps": 1000, "limit_val_batches": 0}
        start = seconds()
        run = runs.prepare(words, Path(folder), trainer=trainer)
        prepared = seconds()
        runs.fit(run)
        found = {"seconds": seconds() - prepared, "preparing": prepared - start}
        run.trainer.test(run.module, run.data, verbose=False)
        report = run.module.test_report
    found["parameters"] = sum(p.numel() for p in run.module.network.parameters())
    for name, value in report["metrics"].items():
        if name.endswith("rel_l2"):
            found[name.removesuffix("/rel_l2")] = 100 * value
    for name, value in report["baselines"].items():
        found[f"baseline/{name}"] = 100 * value
    return found


def darcy(folder: Path) -> list[str]:
    """Return the words that name the Darcy files."""
    tests = ",".join(str(folder / f"darcy_test_{n}.pt") for n in (16, 32))
    return [f"data.path={folder / 'darcy_train_16.pt'}", f"data.test_path=[{tests}]", "data.val=1"]


def same(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train the library's network in our trainer with the library's settings."""
    words = [
        "model=tfno", "network.model=FNO", "network.modes=8", "optimizer=complex_adamw",
        "+network.options.projection_channel_ratio=2", "module.loss=h1", "module.squared=false",
        "optimizer.lr=5e-3",
        "optimizer.weight_decay=1e-4", "schedule.warmup=0", "data.batch_size=16",
        f"trainer.max_steps={epochs * 63}",
    ]  # fmt: skip
    return ours([*words, *darcy(folder)], seed)


def best(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train our defaults for small grids."""
    words = ["model=unet", "optimizer=soap", VIEWS, "network.views=true", "module.squared=false"]
    return ours([*words, f"trainer.max_steps={epochs * 56}", *darcy(folder)], seed)


def coarse(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train the same on top of a classical solve."""
    words = ["model=unet", "optimizer=soap", VIEWS, "network.views=true", "module.squared=false",
             "data.coarse={_target_: sciml.physics.steady.NodalDarcy, refine: 3}"]  # fmt: skip
    return ours([*words, f"trainer.max_steps={epochs * 56}", *darcy(folder)], seed)


def burgers(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train our FNO on Burgers' equation."""
    words = ["model=fno", "optimizer=soap", f"data.path={folder / 'burgers_train_16.pt'}",
             f"data.test_path={folder / 'burgers_test_16.pt'}", "data.val=1",
             "data.symmetries=[shift,flip_x_odd]", "trainer.max_steps=5000"]  # fmt: skip
    return ours(words, seed)


def write_shocks(path: Path, count: int = 400) -> None:
    """Write trajectories u (N, 11, 128) of Burgers' equation with viscosity 2e-3, solved on 512."""
    problem = Burgers(points=512, time_count=11, viscosity=2e-3, length_scale=0.2, step=1e-3)
    draw = torch.Generator().manual_seed(0)
    u = problem.solve(problem.sample(count, draw)).value[..., ::4]
    np.savez(path, u=u.numpy(), t=problem.times.numpy())


def shocks(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train our FNO on one step of shocks, and roll it out."""
    with tempfile.TemporaryDirectory() as made:
        write_shocks(Path(made) / "shocks.npz")
        words = ["model=fno", "optimizer=soap", f"data.path={Path(made) / 'shocks.npz'}",
                 "data.symmetries=[shift,flip_x_odd]", "data.periodic=true",
                 "trainer.max_steps=1500"]  # fmt: skip
        return ours(words, seed, baselines=True)


def clouds(
    folder: Path, seed: int, epochs: int, model: str = "gino", steps: int = 50
) -> dict[str, float]:
    """Train a network on point clouds: 320 stars, 50 for the test."""
    with tempfile.TemporaryDirectory() as made:
        write_stars(Path(made) / "stars.pt")
        words = [f"model={model}", "optimizer=soap", f"data.path={Path(made) / 'stars.pt'}",
                 "data.inputs=[f,edge]", "data.val=30", "data.test=50",
                 f"trainer.max_steps={steps * epochs}"]  # fmt: skip
        return ours(words, seed, baselines=True)


def fnogno(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train FNOGNO on them."""
    return clouds(folder, seed, epochs, "fnogno")


def cloud_unet(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Train our own network for clouds on them."""
    return clouds(folder, seed, epochs, "cloud_unet", steps=70)


def ridge(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Fit kernel ridge regressions."""
    found, start = {}, seconds()
    for name in ("darcy", "burgers"):
        data = FieldFiles(path=str(folder / f"{name}_train_16.pt"), val=1,
                          test_path=str(folder / f"{name}_test_16.pt"))  # fmt: skip
        given, y = data.known("train", 2000)
        plain, ones, x = data.sizes["fields"], [1] * data.fields.dim, data.fields.pack(given)
        mean, std = (torch.tensor(plain[k]).double().reshape(-1, *ones) for k in ("mean", "std"))
        model = regression.kernel_ridge((x.double() - mean) / std, y.double())
        given, wanted = data.known("test", 2000)
        guess = model((data.fields.pack(given).double() - mean) / std)
        found[name] = 100 * regression.relative(guess, wanted.double())
    return {**found, "seconds": seconds() - start}


WHAT: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
    "library": library, "same": same, "best": best, "coarse": coarse, "burgers": burgers,
    "shocks": shocks, "gino": clouds, "fnogno": fnogno, "cloud_unet": cloud_unet, "ridge": ridge,
}  # fmt: skip


def table(kept: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return what was kept as Markdown: means over seeds, with the least and the largest."""
    heads = ["what", "seeds", "CPU s", "parameters", "relative L2 errors in percent"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, runs_of in kept.items():
        rows = list(runs_of.values())
        other = [k for k in rows[0] if k not in ("seconds", "preparing", "parameters", "epochs")]
        spent = [row["seconds"] + row.get("preparing", 0.0) for row in rows]
        errors = "; ".join(f"{k} {_spread([row[k] for row in rows])}" for k in other)
        count = rows[0].get("parameters", 0)
        lines.append(f"| {name} | {len(rows)} | {_spread(spent)} | {count:.0f} | {errors} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    mean = sum(values) / len(values)
    ends = f" ({min(values):.3g}–{max(values):.3g})" if len(values) > 1 else ""
    return f"{mean:.3g}{ends}"


def main() -> None:
    """Run what was asked for, print a line per run, and keep all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print what was kept, run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if arguments.table:
        print(table(kept))
        return
    for seed in arguments.seeds:
        for name in [n for n in arguments.what if n != "ridge" or seed == arguments.seeds[0]]:
            found = WHAT[name](arguments.folder.resolve(), seed, arguments.epochs)
            shown = ", ".join(f"{k} {v:.4g}" for k, v in found.items())
            print(f"{name} seed={seed} epochs={arguments.epochs}: {shown}", flush=True)
            kept.setdefault(name, {})[str(seed)] = {**found, "epochs": arguments.epochs}
            arguments.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
