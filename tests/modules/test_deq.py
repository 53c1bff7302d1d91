"""The equilibrium method: its loss terms, what it logs, and whether paths matter."""

import math

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F

from sciml.data.image.images import ImageData
from sciml.errors import ConfigError, InvalidArgument
from sciml.modules.deq import DEQClassifier, longer
from sciml.networks.image.deq_classifier import DEQ, UnrolledNetwork
from sciml.solvers import Anderson, FixedPointIteration, Implicit, JacobianFree, Newton
from sciml.testing import runs

SMALL = {"width": 8, "head": 8, "groups": 2}


@pytest.fixture(scope="module")
def data():
    return ImageData(batch_size=16, seed=1)


def module(data, *, kind=DEQ, lr=1e-2, network=None, **options):
    torch.manual_seed(0)
    net = kind(**{**data.sizes, **SMALL, **(network or {})})
    return DEQClassifier(
        network=net, data=data, optimizer=lambda p: torch.optim.Adam(p, lr=lr), **options
    )


def train(method, data, steps, **options):
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        limit_val_batches=0,
        inference_mode=False,
        **options,
    )
    trainer.fit(method, datamodule=data)
    return trainer


def test_the_terms_of_the_loss(data):
    """Against the formulas of the module's text, written out."""
    method = module(data, jacobian_weight=0.7, corrections=[1, 3], correction_decay=0.5)
    method.network.solver = FixedPointIteration(rtol=1e-6)
    batch = data.batch(4)
    terms = {term.name: term for term in method.loss_terms(batch)}
    net, image = method.network, batch.inputs["image"]
    theta = net.cell.prepare(net.encode(image))
    z, states = torch.zeros_like(theta[0]), []
    for _ in range(40):
        states.append(z)
        z = net.cell(z, *theta)
    wanted = {"data": F.cross_entropy(net.read(z), batch.target)}
    for weight, k in ((0.25, 1), (0.5, 3)):
        logits = net.read(net.cell(states[k], *theta))
        wanted[f"iterate_{k}"] = weight * F.cross_entropy(logits, batch.target)
    for name, value in wanted.items():
        assert torch.isclose(terms[name].loss(), value, rtol=1e-4), name
    probe = torch.randn(z.shape, generator=batch.streams.generator("probe"))
    z = z.detach().requires_grad_()
    (row,) = torch.autograd.grad(net.cell(z, *theta), z, probe)
    penalty = 0.7 * row.square().sum((1, 2, 3)).mean() / z[0].numel()
    assert torch.isclose(terms["jacobian"].loss(), penalty, rtol=1e-4)
    assert set(terms) == {*wanted, "jacobian"}


def test_the_penalty_comes_in_its_share_of_the_steps(data):
    method = module(data, jacobian_weight=1.0, jacobian_share=0.25)
    found = [len(method.loss_terms(data.batch(step))) - 1 for step in range(40)]
    assert 2 <= sum(found) <= 18  # binomial (40, 1/4), three deviations
    (k,) = [i for i, f in enumerate(found) if f][:1]
    assert method.loss_terms(data.batch(k))[1].weight == 4.0
    # all ranks take the same decision
    assert [len(method.loss_terms(data.batch(s, 1, 2))) - 1 for s in range(40)] == found


def test_the_penalty_lowers_the_radius_of_a_free_cell(data):
    radii = []
    for weight in (0.0, 30.0):
        options = {"cell": "normalised"}
        method = module(data, network=options, jacobian_weight=weight, lr=3e-3)
        train(method, data, 25)
        batch = data.batch(99)
        term = module(data, network=options, jacobian_weight=1.0)
        term.network.load_state_dict(method.network.state_dict())
        radii.append(float(term.loss_terms(batch)[1].loss()))
    assert radii[1] < 0.5 * radii[0]


def test_what_is_logged(data):
    method = module(data, network={"adjoint": Implicit(on_failure="best")})
    trainer = train(method, data, 2)
    logged = trainer.callback_metrics
    names = ("iters_mean", "iters_max", "residual_max", "fail_frac", "bwd_iters", "bwd_residual")
    for name in names:
        assert math.isfinite(logged[f"deq/{name}"]), name
    assert 1 <= logged["deq/iters_mean"] <= logged["deq/iters_max"] <= 100
    assert logged["deq/bwd_iters"] >= 1 and logged["deq/residual_max"] <= 1e-4
    assert method._solution is None  # no graph outlives its step


def test_a_contraction_is_path_independent_and_says_so(data):
    method = module(data)
    trainer = train(method, data, 3)
    found = trainer.test(method, datamodule=data, verbose=False)[0]
    assert found["test/deq/fail_frac"] == 0
    assert found["test/path/random_start_accuracy"] == found["test/accuracy"]
    assert found["test/path/ten_times_accuracy"] == found["test/accuracy"]
    assert found["test/path/random_start_distance_max"] < 1e-3
    assert 0 < found["test/path/spectral_radius_max"] <= 0.9
    assert method.test_report["metrics"]["test/path/ten_times_accuracy"] > 0


def test_a_solve_that_stops_early_is_path_dependent_and_says_so(data):
    method = module(data, network={"solver": FixedPointIteration(max_iter=1)})
    trainer = train(method, data, 1)
    found = trainer.test(method, datamodule=data, verbose=False)[0]
    assert found["test/deq/fail_frac"] > 0.9
    assert found["test/path/ten_times_distance_max"] > 0.02
    assert found["test/path/random_start_distance_max"] > 0.02


def test_longer_solvers():
    assert longer(Anderson(rtol=1e-3, max_iter=7, window=3), 10) == Anderson(
        rtol=1e-4, max_iter=70, window=3
    )
    assert longer(Newton(), 10).rtol is None
    assert longer(lambda task, x: x, 10) is None  # nothing to lengthen, nothing is compared


def test_refusals(data):
    with pytest.raises(InvalidArgument, match="network=deq"):
        module(data, kind=UnrolledNetwork, jacobian_weight=1.0)
    with pytest.raises(InvalidArgument, match="module.jacobian_weight=-1"):
        module(data, jacobian_weight=-1)
    with pytest.raises(InvalidArgument, match="for module=deq"):
        DEQClassifier(network=torch.nn.Linear(2, 2), data=data, optimizer=torch.optim.Adam)
    assert Implicit(JacobianFree()).order == 1


@pytest.mark.parametrize(
    "words, hint",
    [
        (["adjoint=reversible"], "Type solver=reversible"),
        (["adjoint=backprop"], "Type solver=fixed_point"),
        (["adjoint=shine"], "Type solver=broyden"),
        (["adjoint=ift_shine", "solver=broyden", "solver.share=false"], "solver.share=true"),
        (["network.cell=other"], "cell"),
        (["adjoint=phantom", "adjoint.linear=null"], "linear"),
    ],
)
def test_pairs_that_do_not_fit_are_refused_before_anything_is_built(words, hint):
    with pytest.raises(ConfigError, match=hint):
        runs.compose(["model=deq_digits", *words])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits(seed, tmp_path):
    """python -m pytest -m slow tests/modules/test_deq.py -k digits; a minute of one core each.

    At least 98.5 % of the test digits with at most 32 thousand weights, and a solve ten times as
    long changes the error by less than 5 %.
    """
    run = runs.prepare(["model=deq_digits", f"seed={seed}"], tmp_path, callbacks=["ema"])
    assert sum(p.numel() for p in run.module.parameters()) <= 32_000
    runs.fit(run)
    found = run.trainer.test(run.module, datamodule=run.data, verbose=False)[0]
    assert found["test/accuracy"] >= 0.985
    error, longer_error = (
        1 - found[f"test/{name}"] for name in ("accuracy", "path/ten_times_accuracy")
    )
    assert abs(longer_error - error) <= 0.05 * error + 1e-9
