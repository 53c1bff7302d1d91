"""One optimizer step on two ranks against one process on the joined batch.

Ranks are forked, which is safe only before the first backward pass: so the steps are taken in a
process of their own, and come back as a file.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor

from sciml.cli.runs.build import Run
from sciml.data.batch import Batch
from sciml.data.batch import joined as join_data
from sciml.testing.runs import compose, fit, prepare

RANKS = 2
PATIENCE = 300  # seconds


def two_rank_steps(
    cases: Mapping[str, Sequence[str]], kinds: Sequence[str] = ("difference", "joined")
) -> dict[str, dict[str, Any]]:
    """Return for every case how far a step on two ranks is from a step of one process.

    Args:
        cases: Name to command line; plain gradient descent is used whatever it says, because the
            step then is the gradient.
        kinds: Comparisons to make.

    Returns:
        By name: `difference`, relative L2 distance of the two changes of the weights, against the
        losses of both ranks added up in one process; `joined`, the same against one batch that
        holds the points of both (with all directions, `estimator=exact`, where there is an
        estimator); `same_points`, whether the ranks drew the same points; or `error`.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        lines = {name: list(words) for name, words in cases.items()}
        run_ranks(_steps, (lines, list(kinds), str(answer)), 1)
        return json.loads(answer.read_text())


def run_ranks(worker: Callable[..., None], args: tuple, world: int) -> None:
    """Run `worker(rank, *args)` in `world` processes and wait for them.

    They are forked from a server that has imported everything, which takes most of the time of a
    short test, and that has no threads: those of an accelerator, and of the backward pass where
    there is one, do not survive a fork of this process. `worker` is a function of a module.

    Raises:
        TimeoutError: If they have not ended after `PATIENCE` seconds; they are killed.
    """
    context = mp.get_context("forkserver")
    # not the pretend device: beside it a backward pass starts threads, and `_steps` forks again
    context.set_forkserver_preload(["sciml.testing.ranks"])
    ranks = mp.start_processes(worker, args, world, join=False, start_method="forkserver")
    end = time.monotonic() + PATIENCE
    while not ranks.join(timeout=10):
        if time.monotonic() > end:
            for process in ranks.processes:
                process.kill()
            raise TimeoutError(f"{world} ranks of {worker.__name__} after {PATIENCE} s")


def joined(batches: Sequence[Any]) -> Any:
    """Return the batches of all ranks as one batch of one process.

    Tensors are concatenated along points; random streams become those of one process; numbers,
    which describe the global batch already, stay.
    """
    first = batches[0]
    if isinstance(first, Batch):
        return join_data(batches)
    if isinstance(first, Tensor):
        return torch.cat(list(batches))
    if isinstance(first, Mapping):
        return {key: joined([b[key] for b in batches]) for key in first}
    if dataclasses.is_dataclass(first):
        if hasattr(first, "world"):
            return dataclasses.replace(first, rank=0, world=1)
        fields = [f.name for f in dataclasses.fields(first)]
        return type(first)(**{f: joined([getattr(b, f) for b in batches]) for f in fields})
    return first


def _steps(_: int, cases: dict[str, list[str]], kinds: list[str], answer: str) -> None:
    """Write the results of `two_rank_steps` to the file `answer`."""
    torch.set_num_threads(1)
    forked: dict[tuple[str, str], dict[str, Tensor]] = {}
    results: dict[str, dict[str, Any]] = {name: {} for name in cases}
    two = {
        "devices": RANKS,
        "strategy": "ddp_fork",
        "accelerator": "cpu",
        "max_steps": 1,
        "limit_val_batches": 0,
    }
    for name, words in cases.items():
        for kind in kinds:
            try:
                run = prepare(line(words, kind), Path(answer).parent, trainer=two)
                forked[name, kind] = fit(run).module.state_dict()
            except Exception as error:  # any: it belongs into the report of this case
                results[name]["error"] = f"{kind}: {type(error).__name__}: {error}"
    for name, words in cases.items():
        for kind in kinds:
            if (name, kind) not in forked:
                continue
            one = {**two, "devices": 1, "strategy": "auto"}
            run = prepare(line(words, kind), Path(answer).parent, trainer=one)
            start = {k: v.clone() for k, v in run.module.state_dict().items()}
            run.trainer.strategy.connect(run.module)  # points take the precision of the module
            run.data.trainer = run.trainer
            batches = [run.data.batch(0, rank, RANKS) for rank in range(RANKS)]
            if isinstance(batches[0], Batch):
                batches = [b.to(run.module.device, run.module.dtype) for b in batches]
            step(run, [joined(batches)] if kind == "joined" else batches)
            wanted = changes(run.module.state_dict(), start)
            found = changes(forked[name, kind], start)
            results[name][kind] = float((found - wanted).norm() / wanted.norm())
            results[name]["same_points"] = same_points(*batches)
    Path(answer).write_text(json.dumps(results))


def same_points(a: Any, b: Any) -> bool:
    """Return whether the batches of two ranks hold the same points or samples."""
    if not isinstance(a, Batch):
        return bool(torch.equal(a.points.x, b.points.x))
    pairs = [(a.target, b.target), *((a.inputs[key], b.inputs[key]) for key in a.inputs)]
    return all(torch.equal(x, y) for x, y in pairs)


# The step is the gradient; the trainer, which clips it, is compared with a step without a trainer.
PLAIN = ("optimizer=sgd", "schedule=constant", "trainer.gradient_clip_val=null")
KINDS = {"difference": PLAIN, "joined": (*PLAIN, "estimator=exact")}


def line(words: Sequence[str], kind: str) -> list[str]:
    """Return the command line of a case for one of the two comparisons."""
    extra = list(KINDS[kind])
    if "estimator=exact" in extra:
        if not compose(words).get("estimator"):
            return [*words, *(w for w in extra if w != "estimator=exact")]
        # which takes none of the estimator's arguments
        words = [w for w in words if not w.startswith("estimator")]
    return [*words, *extra]


def step(run: Run, batches: Sequence[Any]) -> None:
    """Take one optimizer step on the mean of the losses of some batches, without a trainer."""
    optimizer = run.module.configure_optimizers()
    if isinstance(optimizer, Mapping):
        optimizer = optimizer["optimizer"]
    run.module.log = run.module.log_dict = lambda *a, **k: None  # there is no trainer to log to
    with run.trainer.precision_plugin.train_step_context():
        loss = sum(run.module.training_step(batch, 0) for batch in batches) / len(batches)
    loss.backward()
    optimizer.step()


def changes(state: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    """Return what a step did to the weights, as one float64 vector.

    Left out is what has another size since: state of points, which there were none of before.
    """
    parts = [
        (v.cpu() - start[k]).double().flatten()
        for k, v in state.items()
        if v.shape == start[k].shape
    ]
    return torch.cat(parts)
