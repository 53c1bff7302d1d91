"""What every training method has to satisfy, as a test class to inherit.

    class TestMyMethod(ModuleContract):
        cases = {"small": ["model=my_method", "network.width=8", "data.points=8"]}

Each case is a command line; keep it small. The checks are plain functions below, usable without
pytest; each raises AssertionError with what it found.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from sciml.cli import paths
from sciml.errors import ConfigError
from sciml.pretrained import load_pretrained
from sciml.testing import runs
from sciml.testing.pretend import NAME, Pretend
from sciml.testing.pretend_trainer import StepWaits, move
from sciml.testing.ranks import two_rank_steps

Words = Sequence[str]
# Checks that a quick suite makes of every case; the second builds it, too.
QUICK = ("test_gradient_reaches_every_parameter", "test_steps_on_an_accelerator")
# Checks that it makes of one case of a class, for they take longest.
ONCE = ("test_overfits_one_batch", "test_runs_with_every_optimizer_or_is_refused")
# Checks that it leaves out.
LONG = ("test_predicts_on_an_accelerator",)
# Its optimizers, one for each way to ask a method: factors from its layers, probes of its loss
# terms, its loss once more. tests/modules/test_every_optimizer.py has them all, on one method.
QUICK_OPTIMIZERS = ("kfac", "sophia", "ssbroyden")


def builds(words: Words, run_dir: Path) -> None:
    """Check that the configuration passes preflight and its objects can be constructed."""
    run = runs.prepare(words, run_dir)
    assert any(p.requires_grad for p in run.module.parameters()), "nothing to train"


def gradient_reaches_every_parameter(
    words: Words, run_dir: Path, unused: Sequence[str] = ()
) -> None:
    """Check that no trainable parameter is left out of the first backward pass.

    Args:
        words: The command line.
        run_dir: Where to run.
        unused: Parameters that are known to stay without a gradient at the start.
    """
    look = runs.Gradients()
    runs.fit(runs.prepare(words, run_dir, trainer=_short(1)), look)
    left = [name for name in look.missing if name not in unused]
    assert not left, f"no gradient reaches {', '.join(left)}"


def overfits_one_batch(words: Words, run_dir: Path, steps: int = 200, factor: float = 0.1) -> None:
    """Check that the loss on points that never change falls to `factor` of its first value."""
    words = [*words, "debug=overfit", "schedule=constant"]
    seen = runs.Losses()
    runs.fit(runs.prepare(words, run_dir, trainer=_short(steps)), seen)
    first, last = seen.values[0], min(seen.values[-10:])
    assert last < factor * first, f"loss {first:.3g} only fell to {last:.3g} in {steps} steps"


def predicts_the_same_after_loading(words: Words, run_dir: Path) -> None:
    """Check that the exported model gives bit-equal values in the run's own precision."""
    run = runs.fit(runs.prepare(words, run_dir, callbacks=["export"], trainer=_short(2)))
    # as a loaded model has them: torch.matmul rounds otherwise where a factor requires gradients
    run.module.requires_grad_(False)
    inputs = _inputs(run)
    with torch.no_grad():
        if hasattr(run.module, "trial"):
            before = {"value": run.module.trial(*inputs.values())[:, 0]}
        else:
            before = run.module.network.eval().infer(**inputs)
    after = load_pretrained(run_dir).predict(**inputs)
    for name, value in before.items():
        moved = (value.double() - after[name].double()).abs().max()
        assert torch.equal(value, after[name]), f"'{name}' moved by {float(moved):.3g}"


def _inputs(run: runs.Run) -> dict[str, torch.Tensor]:
    """Return inputs of a run's model, in its precision."""
    if hasattr(run.module, "trial"):
        p = run.module.problem.sample(16, torch.Generator().manual_seed(5))
        kind, inputs = next(run.module.trial.parameters()).dtype, {"x": p.x}
        inputs |= {} if p.t is None else {"t": p.t}
    else:
        kind = next(run.module.network.parameters()).dtype.to_real()
        inputs = run.data.example()
    return {k: v.to(kind) if v.is_floating_point() else v for k, v in inputs.items()}


def resumes_bit_identical(words: Words, run_dir: Path, steps: int = 8, killed_at: int = 5) -> None:
    """Check that a killed and continued run ends with the weights of one that was not killed."""
    words = [*words, "callbacks.checkpoint.every_steps=3"]
    keep = ["finite", "random_streams", "ema", "checkpoint"]

    def prepare(name: str) -> runs.Run:
        return runs.prepare(words, run_dir / name, callbacks=keep, trainer=_short(steps, val=4))

    whole = runs.fit(prepare("whole")).module.state_dict()
    try:
        runs.fit(prepare("cut"), runs.KillAt(killed_at))
    except runs.Killed:
        pass
    last = run_dir / "cut" / "checkpoints" / "last.ckpt"
    done = torch.load(last, weights_only=True)["global_step"]
    assert 0 < done <= killed_at, f"the checkpoint is of step {done}"
    again = runs.fit(prepare("cut"), ckpt_path=last).module.state_dict()
    moved = [name for name, value in whole.items() if not torch.equal(again[name], value)]
    assert not moved, f"continued from step {done}, {', '.join(moved)} differ"


def runs_or_is_refused(words: Words, run_dir: Path, optimizer: str) -> str | None:
    """Check that an optimizer trains the method, or that preflight says why it cannot.

    Returns:
        The reason if it was refused, else None.
    """
    words = [*words, f"optimizer={optimizer}"]
    try:
        run = runs.prepare(words, run_dir, trainer=_short(2))
    except ConfigError as error:
        assert len(str(error)) > 20, f"refused without a reason: {error}"
        return str(error)
    before = {k: v.clone() for k, v in run.module.state_dict().items()}
    after = runs.fit(run).module.state_dict()
    assert all(v.isfinite().all() for v in after.values()), f"{optimizer} made weights not finite"
    assert any(not torch.equal(after[k], before[k]) for k in before), f"{optimizer} did nothing"
    return None


def _short(steps: int, val: int = 0) -> dict[str, object]:
    """Return trainer arguments for a few steps, validating every `val` steps or never."""
    often = {"val_check_interval": val} if val else {"limit_val_batches": 0}
    return {"max_steps": steps, "log_every_n_steps": 1, **often}


def steps_on_an_accelerator(
    words: Words, run_dir: Path, waits: int = 0, tolerance: float = 1e-5
) -> None:
    """Train, validate and test on a pretend device: no fault, the CPU's losses, few waits.

    Args:
        words: The command line.
        run_dir: Where to run.
        waits: Times that the host may wait for the device in a step.
        tolerance: Relative distance of the losses from those of the CPU.

    Raises:
        AssertionError: If losses differ, or the host waits more than `waits` times in a step.
    """
    often = {"max_steps": 2, "limit_val_batches": 1, "limit_test_batches": 1}
    often |= {"num_sanity_val_steps": 0, "inference_mode": False, "log_every_n_steps": 1000}
    losses = runs.Losses()
    runs.fit(runs.prepare(words, run_dir / "cpu", trainer=often), losses)
    with Pretend() as device:
        run = runs.prepare(words, run_dir / "device", trainer=often)
        move(run.trainer)
        counted, there = StepWaits(device), runs.Losses()
        runs.fit(run, counted, there)
        places = dict(device.places)
        run.trainer.test(run.module, run.data, verbose=False)
    torch.testing.assert_close(there.values, losses.values, rtol=tolerance, atol=1e-12)
    assert counted.steps[-1] <= waits, f"{counted.steps} waits of the host: {places}"


def predicts_on_an_accelerator(words: Words, run_dir: Path, tolerance: float = 1e-5) -> None:
    """Save a model from a pretend device, load it there and predict with inputs on the CPU.

    Args:
        words: The command line.
        run_dir: Where to run.
        tolerance: Distance of the predictions from those of the CPU, relative to their size.

    Raises:
        AssertionError: If predictions differ or do not come back to where the inputs are.
    """
    with Pretend():
        run = runs.prepare(words, run_dir, callbacks=["export"], trainer=_short(1))
        move(run.trainer)
        runs.fit(run)
        run.module.to("cpu")
        inputs = _inputs(run)
        found = load_pretrained(run_dir, device=NAME).predict(**inputs)
    for name, value in load_pretrained(run_dir).predict(**inputs).items():
        assert found[name].device == value.device, f"'{name}' stays on {found[name].device}"
        size = float(value.abs().max()) if value.is_floating_point() else 1.0
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance * size)


@functools.cache  # one process runs all cases
def _ranks(
    cases: tuple[tuple[str, tuple[str, ...]], ...], kinds: tuple[str, ...]
) -> dict[str, dict]:
    return two_rank_steps({name: list(words) for name, words in cases}, kinds)


class ModuleContract:
    """Inherit, set `cases`, and pytest runs every check on every case.

    Attributes:
        cases: Name to command line.
        overfit: Steps, and the factor by which the loss on one batch has to fall in them.
        waits: Times that the host waits for the device in one step at most, by case; 0 where
            nothing is said.
        accelerator_cases: Names of the cases to run on a pretend device; None for all.
        accelerator_tolerance: Relative distance of their losses from those of the CPU.
        unused: Parameters that have no gradient in the first step, with reason in a comment.
        optimizer_cases: Names of the cases to run with every optimizer; None for all.
            A quick suite runs the first that is not slow with `QUICK_OPTIMIZERS`.
        rank_cases: Names of the cases to run on two ranks; None for all.
        slow_cases: Names of the cases that a quick suite only differentiates and steps on a
            pretend device.
        rank_kinds: Comparisons made, see `two_rank_steps`; "joined" holds only where every point
            is treated alike whatever the others are.
        rank_tolerance: Relative L2 distance allowed between the two changes of the weights.
    """

    cases: ClassVar[Mapping[str, Words]] = {}
    overfit: ClassVar[tuple[int, float]] = (200, 0.1)
    waits: ClassVar[Mapping[str, int]] = {}
    accelerator_cases: ClassVar[Sequence[str] | None] = None
    accelerator_tolerance: ClassVar[float] = 1e-5
    unused: ClassVar[tuple[str, ...]] = ()
    optimizer_cases: ClassVar[Sequence[str] | None] = None
    rank_cases: ClassVar[Sequence[str] | None] = None
    slow_cases: ClassVar[Sequence[str]] = ()
    rank_kinds: ClassVar[Sequence[str]] = ("difference", "joined")
    rank_tolerance: ClassVar[float] = 1e-4

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Cross the checks with the cases, and one of them with the optimizers."""
        import pytest

        wanted = metafunc.fixturenames
        some = self.rank_cases if "on_two_ranks" in wanted else None
        some = self.optimizer_cases if "optimizer" in wanted else some
        some = self.accelerator_cases if "case" in wanted else some
        names = list(self.cases if some is None else some)
        check, slow = metafunc.function.__name__, list(self.slow_cases)
        if check in QUICK:
            slow = []
        elif check in LONG:
            slow = names
        elif check in ONCE:
            first = next((n for n in names if n not in slow), None)
            slow = [n for n in names if n != first]

        def listed(values: Sequence) -> list:
            """Return the values of the cases, those of slow ones marked."""
            marks = [[pytest.mark.slow] if n in slow else [] for n in names]
            rows = zip(values, names, marks, strict=True)
            return [pytest.param(*value, id=n, marks=m) for value, n, m in rows]

        if "case" in wanted:
            both = listed([(n, self.cases[n]) for n in names])
            metafunc.parametrize(("case", "words"), both)
        elif "words" in wanted:
            metafunc.parametrize("words", listed([(self.cases[n],) for n in names]))
        if "on_two_ranks" in wanted:
            metafunc.parametrize("on_two_ranks", listed([(n,) for n in names]))
        if "optimizer" in wanted:
            every = paths.options("optimizer")
            marks = [[] if n in QUICK_OPTIMIZERS else [pytest.mark.slow] for n in every]
            some = [pytest.param(n, marks=m) for n, m in zip(every, marks, strict=True)]
            metafunc.parametrize("optimizer", some)

    def test_builds_from_its_config(self, words: list[str], tmp_path: Path) -> None:
        """See `builds`."""
        builds(words, tmp_path)

    def test_gradient_reaches_every_parameter(self, words: list[str], tmp_path: Path) -> None:
        """See `gradient_reaches_every_parameter`."""
        gradient_reaches_every_parameter(words, tmp_path, self.unused)

    def test_overfits_one_batch(self, words: list[str], tmp_path: Path) -> None:
        """See `overfits_one_batch`."""
        overfits_one_batch(words, tmp_path, *self.overfit)

    def test_predicts_the_same_after_loading(self, words: list[str], tmp_path: Path) -> None:
        """See `predicts_the_same_after_loading`."""
        predicts_the_same_after_loading(words, tmp_path)

    def test_resume_equals_uninterrupted(self, words: list[str], tmp_path: Path) -> None:
        """See `resumes_bit_identical`."""
        resumes_bit_identical(words, tmp_path)

    def test_steps_on_an_accelerator(self, words: list[str], case: str, tmp_path: Path) -> None:
        """See `steps_on_an_accelerator`."""
        allowed = self.waits.get(case, 0)
        steps_on_an_accelerator(words, tmp_path, allowed, self.accelerator_tolerance)

    def test_predicts_on_an_accelerator(self, words: list[str], case: str, tmp_path: Path) -> None:
        """See `predicts_on_an_accelerator`."""
        predicts_on_an_accelerator(words, tmp_path, self.accelerator_tolerance)

    def test_runs_with_every_optimizer_or_is_refused(
        self, words: list[str], optimizer: str, tmp_path: Path
    ) -> None:
        """See `runs_or_is_refused`."""
        runs_or_is_refused(words, tmp_path, optimizer)

    def test_two_ranks_equal_one_process(self, on_two_ranks: str) -> None:
        """See `sciml.testing.ranks`: different points per rank, one global mean."""
        asked = self.cases if self.rank_cases is None else self.rank_cases
        asked = tuple((n, tuple(self.cases[n])) for n in asked)
        found = _ranks(asked, tuple(self.rank_kinds))[on_two_ranks]
        assert "error" not in found, found["error"]
        assert not found["same_points"], "both ranks drew the same points"
        for kind in self.rank_kinds:
            assert found[kind] < self.rank_tolerance, f"{kind}: {found[kind]:.2e}"
