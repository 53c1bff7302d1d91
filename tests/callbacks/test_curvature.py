"""The curvature layer inside a Lightning run: what it shares, what it leaves behind, its ranks."""

import gc
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

import sciml
from sciml.callbacks.curvature import CurvatureCallback, check_gradients
from sciml.errors import InvalidArgument
from sciml.optim import KFAC, MFAC
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.construct import curvature_of
from sciml.optim.curvature.capture import Capture
from sciml.optim.curvature.jacobian import Jacobian, jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.full.spring import SPRING
from sciml.testing import runs
from sciml.testing.ranks import run_ranks

torch.set_num_threads(1)
SMALL = [
    "model=pinn_hjb",
    "problem.dim=5",
    "estimator.num_dims=3",
    "network.width=8",
    "data.points=6",
    "trainer.precision=64-true",
    "schedule=constant",
]


def prepare(folder, optimizer="spring", steps=4, words=(), **trainer):
    trainer = {"max_steps": steps, "limit_val_batches": 0, **trainer}
    return runs.prepare([*SMALL, f"optimizer={optimizer}", *words], folder, trainer=trainer)


def test_a_run_equals_a_plain_loop(tmp_path):
    run = runs.fit(prepare(tmp_path, steps=5))
    other = prepare(tmp_path, steps=5)
    module, data = other.module.double(), other.data
    optimizer = module.configure_optimizers()["optimizer"]
    module.train()
    for step in range(5):
        batch = data.batch(step, 0, 1)
        batch.points = batch.points.to(torch.float64)
        objective = Objective(lambda b=batch: module.loss_terms(b), step=step)
        optimizer.update_curvature(objective)
        optimizer.step()
    for a, b in zip(run.module.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_every_step_has_its_own_number_and_its_own_probes(tmp_path, monkeypatch):
    seen, update = [], SPRING.update_curvature

    def look(self, objective):
        probe = torch.rand(1, generator=objective.generator("probe"))
        seen.append((objective.step, float(probe)))
        update(self, objective)

    monkeypatch.setattr(SPRING, "update_curvature", look)
    runs.fit(prepare(tmp_path, steps=3))
    assert [step for step, _ in seen] == [0, 1, 2]
    assert len({probe for _, probe in seen}) == 3


def test_the_module_is_left_as_it_was(tmp_path):
    run = prepare(tmp_path)
    own = set(vars(run.module))
    runs.fit(run)
    assert not {"loss_terms", "backward"} & set(vars(run.module)), set(vars(run.module)) - own
    assert not any(m._forward_hooks or m._backward_hooks for m in run.module.modules())
    assert len(torch.overrides._get_current_function_mode_stack()) == 0


def test_a_failing_step_leaves_no_recording_behind(tmp_path):
    run = prepare(tmp_path)

    def fail(batch, draw, reference=None):
        raise RuntimeError("on purpose")

    run.module.residual = fail
    with pytest.raises(RuntimeError, match="on purpose"):
        runs.fit(run)
    assert len(torch.overrides._get_current_function_mode_stack()) == 0
    assert "loss_terms" not in vars(run.module)


def live_tensors():
    gc.collect()
    return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())


class Count(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx % 50 == 49:
            self.seen.append(live_tensors())


@pytest.mark.usefixtures("own_objects")
def test_tensors_do_not_pile_up_over_200_refreshes(tmp_path):
    count = Count()
    runs.fit(prepare(tmp_path, steps=200), count)
    assert len(count.seen) == 4
    assert count.seen[-1] <= count.seen[0], count.seen


def test_validation_is_not_recorded(tmp_path, monkeypatch):
    entered = []
    original = Capture.__torch_function__

    def spy(self, function, types, args=(), kwargs=None):
        entered.append(torch.is_grad_enabled())
        return original(self, function, types, args, kwargs)

    monkeypatch.setattr(Capture, "__torch_function__", spy)
    run = prepare(tmp_path, steps=2, val_check_interval=1, limit_val_batches=1)
    validating = []

    class Watch(pl.Callback):
        def on_validation_start(self, trainer, pl_module):
            validating.append(len(entered))

        def on_validation_end(self, trainer, pl_module):
            validating.append(len(entered))

    runs.fit(run, Watch())
    assert entered and validating[0] == validating[1]


def test_what_is_missing_is_said(tmp_path):
    run = prepare(tmp_path)
    run.trainer.callbacks = [
        c for c in run.trainer.callbacks if not isinstance(c, CurvatureCallback)
    ]
    with pytest.raises(InvalidArgument, match="update_curvature"):
        runs.fit(run)

    class Bare(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(torch.ones(1, 1)).sum()

        def configure_optimizers(self):
            return SPRING(self.layer)

    trainer = pl.Trainer(
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[CurvatureCallback()],
        default_root_dir=tmp_path,
    )
    with pytest.raises(InvalidArgument, match="loss_terms"):
        trainer.fit(Bare(), torch.utils.data.DataLoader(torch.zeros(2, 1)))


def test_the_wrapper_of_lightning_is_seen_through():
    optimizer = SPRING(torch.nn.Linear(1, 1))
    wrapped = pl.core.optimizer.LightningOptimizer(optimizer)
    assert curvature_of(wrapped) is optimizer
    assert isinstance(optimizer, CurvatureOptimizer)
    assert curvature_of(torch.optim.SGD([torch.zeros(1)], lr=1.0)) is None


REFUSED = {
    "accumulate": (["trainer.accumulate_grad_batches=2"], "one batch"),
    "half": (["trainer.precision=16-mixed"], "gradient scaling"),
    "sharded": (["trainer.strategy=fsdp", "trainer.devices=2"], "whole weight matrices"),
    "clipped": (["trainer.gradient_clip_val=1.0"], "gradient_clip_val"),
    "compiled": (["module.compile=true"], "compile"),
    "split": (
        ["module.dimension_parallel=true", "data.share_points=true", "trainer=ddp"],
        "dimension_parallel",
    ),
}


CLIP = "trainer.gradient_clip_val=1.0"
# Every optimizer that searches along the loss, or makes the step's scale itself.
UNCLIPPED = ["engd", "spring", "ssbroyden", "cbo", "kfac", "kfac_star", "mkor", "mfac", "lbfgs"]


@pytest.mark.parametrize("name", UNCLIPPED)
def test_clipped_gradients_are_refused_where_they_break_the_step(name):
    for more in ([], ["+trainer.gradient_clip_algorithm=value"]):
        with pytest.raises(sciml.errors.ConfigError, match="Type trainer.gradient_clip_val=null"):
            runs.compose(["model=pinn_hjb", f"optimizer={name}", CLIP, *more])


@pytest.mark.parametrize("name", ["adam", "sophia", "adahessian", "galore", "soap"])
def test_clipped_gradients_go_with_methods_that_only_scale_them(name):
    runs.compose(["model=pinn_hjb", f"optimizer={name}", CLIP])


@pytest.mark.parametrize("name", ["lbfgs", "kfac", "kfac_star"])
def test_searches_work_on_one_batch_in_full_precision(name):
    for words, said in (("accumulate_grad_batches=2", "one batch"), ("precision=16-mixed", "bf16")):
        with pytest.raises(sciml.errors.ConfigError, match=said):
            runs.compose(["model=pinn_hjb", f"optimizer={name}", f"trainer.{words}"])
    plain = ["optimizer.step=kl_clip", "optimizer.adapt_every=0"]
    if name == "kfac":
        runs.compose(
            ["model=pinn_hjb", "optimizer=kfac", *plain, "trainer.accumulate_grad_batches=2"]
        )


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda net: torch.optim.LBFGS(net.parameters()), {"gradient_clip_val": 1.0}),
        (lambda net: torch.optim.LBFGS(net.parameters()), {"accumulate_grad_batches": 2}),
        (lambda net: KFAC(net), {"gradient_clip_val": 1.0}),
        (lambda net: KFAC(net, step="line_search"), {"accumulate_grad_batches": 2}),
        (lambda net: MFAC(net), {"gradient_clip_val": 1.0}),
    ],
)
def test_a_trainer_of_ones_own_is_refused_the_same(make, option):
    trainer = SimpleNamespace(**{"gradient_clip_val": None, "accumulate_grad_batches": 1, **option})
    optimizer = make(torch.nn.Linear(1, 1))
    with pytest.raises(InvalidArgument, match=f"{next(iter(option))}=.* with"):
        check_gradients(trainer, pl.core.optimizer.LightningOptimizer(optimizer))
    plain = SimpleNamespace(gradient_clip_val=None, accumulate_grad_batches=1)
    check_gradients(plain, optimizer)


@pytest.mark.parametrize("name", REFUSED)
def test_combinations_that_cannot_be_right_are_refused(name, tmp_path):
    words, said = REFUSED[name]
    with pytest.raises(sciml.errors.ConfigError, match=said):
        runs.compose(["model=pinn_hjb", "optimizer=engd", *words])


def _two_ranks(_, folder, words):
    torch.set_num_threads(1)
    two = {"devices": 2, "strategy": "ddp_fork", "accelerator": "cpu"}
    run = runs.prepare(words, folder, trainer={"max_steps": 5, "limit_val_batches": 0, **two})
    torch.save(runs.fit(run).module.state_dict(), folder / "weights.pt")


def test_ranks_take_the_same_steps_with_their_own_points(tmp_path):
    """Two processes: the weights stay equal without DDP's reduction, and differ from one's."""
    run_ranks(_two_ranks, (tmp_path, [*SMALL, "optimizer=engd"]), 1)
    both = torch.load(tmp_path / "weights.pt", weights_only=True)
    # One process on the joined batch: the points of both ranks, in rank order.
    run = prepare(tmp_path, "engd", steps=5)
    module, data = run.module.double(), run.data
    optimizer = module.configure_optimizers()["optimizer"]
    module.train()
    for step in range(5):
        ranks = [data.batch(step, rank, 2) for rank in range(2)]
        for batch in ranks:
            batch.points = batch.points.to(torch.float64)

        def terms(ranks=ranks):
            parts = [module.loss_terms(batch) for batch in ranks]
            joined = []
            for same in zip(*parts, strict=True):
                first = same[0]
                first.residual = torch.cat([t.residual for t in same])
                joined.append(first)
            return joined

        layers, parameters = optimizer.layers, optimizer.treated
        pieces = [
            jacobian_of(Objective(lambda b=b: module.loss_terms(b)), layers, parameters)
            for b in ranks
        ]
        residual = torch.cat([j.residual for j in pieces])
        n = len(pieces[0])
        blocks = [
            (a + i * n, b + i * n, slots) for i, j in enumerate(pieces) for a, b, slots in j.blocks
        ]
        jacobian = Jacobian(residual, blocks, layers, parameters, None, [])
        optimizer._direct(jacobian)
        optimizer._objective = Objective(terms)
        optimizer.step()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(both[name], value, rtol=1e-11, atol=1e-12)
