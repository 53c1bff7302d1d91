"""The refined schedule: against a naive transcription, from files, in a torch scheduler."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.optim.schedules import Linear, Refined, attach, refined


def naive(norms, law, smoothing):
    """Return eta_t of every step, loops only."""
    steps = len(norms)
    half = int(smoothing * steps) // 2
    smooth = []
    for t in range(steps):
        seen = [norms[min(max(s, 0), steps - 1)] for s in range(t - half, t + half + 1)]
        smooth.append(sorted(seen)[half])
    weights = [g**-2 if law == "sgd" else 1 / g for g in smooth]
    eta = [weights[t] * sum(weights[t + 1 :]) for t in range(steps)]
    return [e / max(eta) for e in eta]


def record(path, norms):
    np.save(path, np.stack([norms, 3 * norms], 1).astype(np.float32))
    return str(path)


@pytest.mark.parametrize("law", ["adam", "sgd"])
def test_equals_the_naive_transcription(law):
    norms = np.exp(np.random.default_rng(0).normal(size=83))
    assert refined(norms, law, 0.1) == pytest.approx(naive(norms, law, 0.1), rel=1e-12)


def test_constant_norms_give_the_linear_decay(tmp_path):
    schedule = Refined(gradients=record(tmp_path / "g.npy", np.ones(101)))
    for step in (0, 13, 50, 99):
        assert schedule(step, 100) == pytest.approx(Linear()(step, 100), abs=0.02)


def test_falling_norms_give_a_warm_up_and_a_late_drop(tmp_path):
    """For norms g that fall linearly from 10 to 1, eta is log(g) / g: its top, 1/e, at g = e."""
    norms = np.linspace(10, 1, 400)
    schedule = Refined(gradients=record(tmp_path / "g.npy", norms))
    factors = [schedule(s, 400) for s in range(401)]
    assert np.argmax(factors) == pytest.approx((10 - np.e) / 9 * 400, abs=3)
    assert factors[0] == pytest.approx(np.log(10) / 10 * np.e, abs=0.01)
    assert max(factors) == pytest.approx(1.0, abs=1e-6) and factors[-1] == 0.0
    sgd = Refined(gradients=record(tmp_path / "g.npy", norms), law="sgd")  # (1 - 1/g) / g^2
    assert np.argmax([sgd(s, 400) for s in range(401)]) == pytest.approx(378, abs=3)


def test_another_length_and_a_long_record_read_the_same_curve(tmp_path):
    curve = 1.5 + np.cos(np.linspace(0, 3, 5000))
    long = Refined(gradients=record(tmp_path / "long.npy", curve))
    short = Refined(gradients=record(tmp_path / "short.npy", curve[::10]))
    assert len(long.table) == 2000
    for step in range(0, 70, 7):
        assert long(step, 70) == pytest.approx(short(step, 70), abs=0.02)


def test_one_spike_is_smoothed_away():
    norms = np.ones(100)
    norms[[20, 60]] = 1e6, np.nan
    assert refined(norms, "adam", 0.1) == pytest.approx(np.linspace(1, 0, 99), abs=1e-12)


def test_a_torch_scheduler_holds_no_table(tmp_path):
    norms = np.linspace(3, 1, 50)
    (tmp_path / "run").mkdir()
    record(tmp_path / "run" / "gradient_norm.npy", norms)
    schedule = Refined(gradients=str(tmp_path / "run"))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = attach(optimizer, schedule, 50)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2 * schedule(0, 50))
    assert all(not callable(v) for v in scheduler.state_dict()["lr_lambdas"])


def test_what_is_no_record_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="callbacks=gradient_norm in that run"):
        Refined(gradients=str(tmp_path))
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(InvalidArgument, match=r"schedule.gradients=.*text.npy"):
        Refined(gradients=str(tmp_path / "text.npy"))
    good = record(tmp_path / "good.npy", np.ones(5))
    with pytest.raises(InvalidArgument, match="schedule.law=lion"):
        Refined(gradients=good, law="lion")
    with pytest.raises(InvalidArgument, match="schedule.smoothing=2"):
        Refined(gradients=good, smoothing=2)
